from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.model import (
    EndpointInfo,
    EndpointPort,
    EndpointSource,
    IPSet,
    Node,
    PortMapping,
    Protocol,
    Service,
    ServiceKey,
)
from kpng.wire.statefile import State, decode_state, encode_state, is_state
from kpng.wire.yaml import load_documents

WEB = ServiceKey("default", "web")


def decode(text: str) -> tuple[State, list[str]]:
    ((_, document),) = load_documents(text)
    state, problems = decode_state(document, "state.yaml")
    return state, [str(problem) for problem in problems]


def good(text: str) -> State:
    state, problems = decode(text)
    assert problems == []
    return state


# -- what Go kpng writes and reads -----------------------------------------------------------------

GO_FILE = """
nodes:
- name: n1
  topology: { node: n1, zone: za }
  labels: {kubernetes.io/hostname: n1}
  annotations: {}
services:
- service:
    namespace: demo
    name: web
    type: LoadBalancer
    labels: {app: web}
    annotations: null
    ips:
      clusterips:      { v4: [10.96.0.10], v6: ["fd00::10"] }
      externalips:     { v4: [198.51.100.7], v6: [] }
      loadbalancerips: { v4: [203.0.113.1] }
      headless: false
    ipfilters: [ { targetips: null, sourceranges: [192.0.2.0/24] } ]
    mapip: false
    ports:
    - { name: http, protocol: 1, port: 80, nodeport: 30080, targetport: 8080, targetportname: "" }
    - { name: dns, protocol: 2, port: 53, nodeport: 0, targetport: 0, targetportname: dns }
    externaltraffictolocal: true
    internaltraffictolocal: false
    healthchecknodeport: 32000
  endpoints:
  - namespace: ignored
    servicename: ignored
    sourcename: web-x
    podname: pod-a
    hash: 17
    endpoint:
      hostname: h
      ips: { v4: [10.1.0.5], v6: [] }
      portoverrides: [ { name: http, port: 9090 }, { name: dns, port: 5353 } ]
      local: true
      scopes: {internal: true, external: true}
    conditions: { ready: false }
    topology: { node: n1, zone: za }
    hints: { zones: [zb, za] }
"""


def test_a_file_as_the_go_program_writes_it() -> None:
    key = ServiceKey("demo", "web")
    assert good(GO_FILE) == State(
        nodes={"n1": Node(name="n1", zone="za", labels={"kubernetes.io/hostname": "n1"})},
        services={
            key: Service(
                namespace="demo",
                name="web",
                type="LoadBalancer",
                cluster_ips=IPSet(("10.96.0.10",), ("fd00::10",)),
                external_ips=IPSet(("198.51.100.7",)),
                load_balancer_ips=IPSet(("203.0.113.1",)),
                ports=(
                    PortMapping(80, Protocol.TCP, "http", 30080, 8080),
                    PortMapping(53, Protocol.UDP, "dns", target_port_name="dns"),
                ),
                external_traffic_local=True,
                source_ranges=("192.0.2.0/24",),
                health_check_node_port=32000,
                labels={"app": "web"},
            )
        },
        sources={
            ("demo", "web-x"): EndpointSource(
                key,
                (
                    EndpointInfo(
                        addresses=IPSet(("10.1.0.5",)),
                        ports=(EndpointPort("http", 9090), EndpointPort("dns", 5353, Protocol.UDP)),
                        hostname="h",
                        pod_name="pod-a",
                        node="n1",
                        zone="za",
                        ready=False,
                        zone_hints=("za", "zb"),
                    ),
                ),
            )
        },
    )


def test_the_least_that_counts() -> None:
    state = good("services: [{service: {name: web}, endpoints: [{endpoint: {ips: {v4: [10.1.0.5]}}}]}]")
    assert state.services == {WEB: Service(namespace="default", name="web")}
    endpoint = EndpointInfo(addresses=IPSet(("10.1.0.5",)))
    assert state.sources == {("default", "web"): EndpointSource(WEB, (endpoint,))}
    assert (endpoint.ready, endpoint.serving, endpoint.terminating) == (True, True, False)


def test_our_additions() -> None:
    state = good("""
services:
- service:
    name: web
    sessionaffinity: {clientip: {timeoutseconds: 60}}
    ports: [{port: 53, protocol: UDP}, {name: t, port: 53, protocol: tcp}]
  endpoints:
  - endpoint: {ips: {v4: [10.1.0.5]}, portoverrides: [{port: 5353, protocol: UDP}]}
    conditions: {ready: false, serving: true, terminating: true}
    hints: {nodes: [n2, n1]}
""")
    service = state.services[WEB]
    assert service.session_affinity_seconds == 60
    assert [port.protocol for port in service.ports] == [Protocol.UDP, Protocol.TCP]
    (endpoint,) = state.sources["default", "web"].endpoints
    assert endpoint.ports == (EndpointPort("", 5353, Protocol.UDP),)
    assert (endpoint.ready, endpoint.serving, endpoint.terminating) == (False, True, True)
    assert endpoint.node_hints == ("n1", "n2")


@pytest.mark.parametrize("text", ["services: []", "nodes: null", "{nodes: [], services: null}"])
def test_empty_states(text: str) -> None:
    assert good(text) == State()


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"services": []}, True),
        ({"nodes": []}, True),
        ({"kind": "List", "services": []}, False),
        ({"items": []}, False),
        ([], False),
        ("services", False),
        (None, False),
    ],
)
def test_a_state_file_is_known_by_its_keys(document: object, expected: bool) -> None:
    assert is_state(document) is expected


# -- port overrides --------------------------------------------------------------------------------

SERVICE_PORTS = (
    "[{name: a, port: 80, targetport: 8000}, {name: b, port: 81, targetportname: bb}, {port: 82, targetport: 8080}]"
)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ("[]", ()),
        ("[{name: a, port: 9000}]", (EndpointPort("a", 9000), EndpointPort("", 8080))),
        ("[{name: b, port: 9001}]", (EndpointPort("b", 9001), EndpointPort("", 8080))),
        ("[{name: x, port: 1}]", (EndpointPort("x", 1), EndpointPort("", 8080))),
        ("[{port: 9002}]", (EndpointPort("", 9002),)),
        ("[{name: a, port: 9000, protocol: TCP}]", (EndpointPort("a", 9000),)),
        ("[{name: a, port: 9000, protocol: 3}]", (EndpointPort("a", 9000, Protocol.SCTP),)),
    ],
)
def test_an_unnamed_port_without_an_override_is_served_on_the_target_port_and_a_named_one_is_not(
    overrides: str, expected: tuple[EndpointPort, ...]
) -> None:
    state = good(
        f"services: [{{service: {{name: web, ports: {SERVICE_PORTS}}},"
        f" endpoints: [{{endpoint: {{ips: {{v4: [10.1.0.5]}}, portoverrides: {overrides}}}}}]}}]"
    )
    assert state.sources["default", "web"].endpoints[0].ports == expected


def test_an_override_takes_its_protocol_from_the_service() -> None:
    state = good("""
services:
- service: {name: web, ports: [{name: d, port: 53, protocol: 2}, {name: d, port: 53, protocol: 1}]}
  endpoints: [{endpoint: {ips: {v4: [10.1.0.5]}, portoverrides: [{name: d, port: 5353}]}}]
""")
    ports = state.sources["default", "web"].endpoints[0].ports
    assert ports == (EndpointPort("d", 5353, Protocol.UDP), EndpointPort("d", 5353, Protocol.TCP))


# -- bad input: the exact line ---------------------------------------------------------------------

SERVICE_PROBLEMS = [
    ("ips: {clusterips: {v4: [nope]}}", "Service default/web: ips.clusterips.v4[0]: 'nope' is not an IP address"),
    ("ips: {clusterips: {v4: [fd00::1]}}", "Service default/web: ips.clusterips.v4[0]: fd00::1 is not IPv4"),
    ("ips: {externalips: {v6: [192.0.2.1]}}", "Service default/web: ips.externalips.v6[0]: 192.0.2.1 is not IPv6"),
    ("ports: [{port: 70000}]", "Service default/web: ports[0].port: 70000 is not a port number (1 to 65535)"),
    ("ports: [{name: x}]", "Service default/web: ports[0].port: 0 is not a port number (1 to 65535)"),
    (
        "ports: [{port: 80, nodeport: -1}]",
        "Service default/web: ports[0].nodeport: -1 is not a port number (1 to 65535)",
    ),
    (
        "ports: [{port: 80, protocol: 9}]",
        "Service default/web: ports[0].protocol: 9 is not a protocol (1 TCP, 2 UDP, 3 SCTP)",
    ),
    (
        "ports: [{port: 80, protocol: ICMP}]",
        "Service default/web: ports[0].protocol: 'ICMP' is not a protocol (1 TCP, 2 UDP, 3 SCTP)",
    ),
    (
        "healthchecknodeport: 99999",
        "Service default/web: healthchecknodeport: 99999 is not a port number (1 to 65535)",
    ),
    (
        "ipfilters: [{targetips: {v4: [1.2.3.4]}, sourceranges: [10.0.0.0/8]}]",
        "Service default/web: ipfilters[0].targetips: not supported; its ranges hold for all addresses",
    ),
    (
        "sessionaffinity: {clientip: {timeoutseconds: 0}}",
        "Service default/web: sessionaffinity.clientip.timeoutseconds: 0 is not between 1 and 86400",
    ),
    ("type: 'a b'", "Service default/web: type: 'a b' is not a type of Service"),
    (
        "ports: [{port: 80, name: 'q\"; flush'}]",
        "Service default/web: ports[0].name: 'q\"; flush' is not a port name",
    ),
    (
        "ports: [{port: 80, targetportname: $(id)}]",
        "Service default/web: ports[0].targetportname: '$(id)' is not a port name",
    ),
    ("topologykeys: [x]", "services[0]: service.service.topologykeys: unknown key"),
    ("clusterIPs: [x]", "services[0]: service.service.clusterIPs: unknown key"),
    (
        "externalTrafficToLocal: true",
        "services[0]: service.service.externalTrafficToLocal: unknown key; did you mean externaltraffictolocal?",
    ),
]


@pytest.mark.parametrize(("fields", "line"), SERVICE_PROBLEMS)
def test_a_bad_field_of_a_service(fields: str, line: str) -> None:
    state, problems = decode(f"services:\n- service:\n    name: web\n    {fields}\n")
    line = line.replace("service.service.", "service.")
    assert problems == [f"state.yaml: {line}"]
    assert WEB in state.services


ENDPOINT_PROBLEMS = [
    (
        "{endpoint: {ips: {v4: [127.0.0.1]}}}",
        "endpoints[1]: endpoint.ips.v4[0]: 127.0.0.1 is a loopback address, which an endpoint may not have",
    ),
    (
        "{endpoint: {ips: {v6: ['fe80::1']}}}",
        "endpoints[1]: endpoint.ips.v6[0]: fe80::1 is a link-local address, which an endpoint may not have",
    ),
    ("{endpoint: {}}", "endpoints[1]: endpoint.ips: not set"),
    ("{}", "endpoints[1]: endpoint.ips: not set"),
    (
        "{endpoint: {ips: {v4: [10.1.0.9]}, portoverrides: [{name: a, port: 0}]}}",
        "endpoints[1]: endpoint.portoverrides[0].port: 0 is not a port number (1 to 65535)",
    ),
    (
        "{endpoint: {ips: {v4: [10.1.0.9]}, portoverrides: [{name: $(id), port: 1}]}}",
        "endpoints[1]: endpoint.portoverrides[0].name: '$(id)' is not a port name",
    ),
    (
        "{endpoint: {ips: {v4: [10.1.0.9]}}, sourcename: '../x'}",
        "endpoints[1]: sourcename: '../x' is not a Kubernetes name",
    ),
    ("{endpoint: {ips: {v4: 10.1.0.9}}}", "endpoints[1]: endpoint.ips.v4: expected array, got str"),
    ("7", "endpoints[1]: expected object, got int"),
]


@pytest.mark.parametrize(("endpoint", "line"), ENDPOINT_PROBLEMS)
def test_a_bad_endpoint_spoils_only_itself(endpoint: str, line: str) -> None:
    first, last = "{endpoint: {ips: {v4: [10.1.0.5]}}}", "{endpoint: {ips: {v4: [10.1.0.7]}}}"
    state, problems = decode(f"services: [{{service: {{name: web}}, endpoints: [{first}, {endpoint}, {last}]}}]")
    line = line.replace("]: ", "].", 1) if not line.startswith("endpoints[1]: expected") else line
    assert problems == [f"state.yaml: Service default/web: {line}"]
    found = [e.addresses.v4[0] for e in state.sources["default", "web"].endpoints]
    assert found == ["10.1.0.5", "10.1.0.7"]


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("podname: a/b", "podname: 'a/b' is not a Kubernetes name"),
        ("topology: {node: 'n 1'}", "topology.node: 'n 1' is not a Kubernetes name"),
        ("topology: {zone: 'z;'}", "topology.zone: 'z;' is not a zone"),
        ("hints: {zones: ['z;']}", "hints.zones[0]: 'z;' is not a zone"),
        ("hints: {nodes: ['n;']}", "hints.nodes[0]: 'n;' is not a Kubernetes name"),
    ],
)
def test_an_odd_name_is_left_out_and_the_endpoint_stays(field: str, line: str) -> None:
    text = "services: [{{service: {{name: web}}, endpoints: [{{endpoint: {{ips: {{v4: [10.1.0.5]}}}}, {}}}]}}]"
    state, problems = decode(text.format(field))
    assert problems == [f"state.yaml: Service default/web: endpoints[0].{line}"]
    assert state == decode(text.format("podname: null"))[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("services: [{service: {}}]", "services[0]: service.name: not set"),
        ("services: [{endpoints: []}]", "services[0]: service.name: not set"),
        ("services: [{service: {name: a/b}}]", "services[0]: service.name: 'a/b' is not a Kubernetes name"),
        (
            "services: [{service: {name: a, namespace: 'x|y'}}]",
            "services[0]: service.namespace: 'x|y' is not a Kubernetes name",
        ),
        ("services: [{service: {name: 5}}]", "services[0]: service.name: expected str, got int"),
        ("services: [3]", "services[0]: expected object, got int"),
        ("services: {}", "state file: services: expected array, got object"),
        ("services: []\nhosts: []", "state file: hosts: unknown key"),
        ("nodes: [{topology: {zone: a}}]", "nodes[0]: name: not set"),
        ("nodes: [{name: $(id)}]", "nodes[0]: name: '$(id)' is not a Kubernetes name"),
        ("nodes: [{name: n1, topology: {zone: 'z;'}}]", "Node n1: topology.zone: 'z;' is not a zone"),
        ("nodes: [{name: n1, taints: []}]", "nodes[0]: taints: unknown key"),
        ("nodes: [{name: n1}, {name: n1}]", "Node n1: is there twice; the first one counts"),
        (
            "services: [{service: {name: a}}, {service: {name: a}}]",
            "Service default/a: is there twice; the first one counts",
        ),
    ],
)
def test_bad_entries(text: str, line: str) -> None:
    assert decode(text)[1] == [f"state.yaml: {line}"]


def test_no_valid_source_range_closes_rather_than_opens() -> None:
    state, problems = decode(
        "services: [{service: {name: web, ips: {loadbalancerips: {v4: [192.0.2.1]}},"
        " ipfilters: [{sourceranges: [x]}]}}]"
    )
    assert problems == [
        "state.yaml: Service default/web: ipfilters[0].sourceranges[0]: 'x' is not a CIDR",
        "state.yaml: Service default/web: ipfilters: no valid range: the load-balancer IPs are not served",
    ]
    assert not state.services[WEB].load_balancer_ips


def test_two_services_cannot_share_a_source() -> None:
    entry = "{{service: {{name: {0}}}, endpoints: [{{sourcename: s, endpoint: {{ips: {{v4: [10.1.0.5]}}}}}}]}}"
    state, problems = decode(f"services: [{entry.format('a')}, {entry.format('b')}]")
    assert problems == [
        "state.yaml: Service default/b: endpoints[0].sourcename: "
        "'s' is already that of endpoints of Service default/a"
    ]
    assert state.sources["default", "s"].service.name == "a"


# -- round trip ------------------------------------------------------------------------------------

names = st.from_regex(r"[a-z]([-a-z0-9]{0,6}[a-z0-9])?", fullmatch=True)
texts = st.text(max_size=8)
words = st.one_of(
    names, st.sampled_from(["", "on", "null", "1", "0x1", "~", "a: b", "é", "- x", "2024-01-01", "#"])
)
odd_names = names | st.sampled_from(
    ["", "on", "null", "1", "0x1", "1e3", "2024-01-01", "no"]
)  # to YAML, other types
v4 = st.integers(0x0A000001, 0x0AFFFFFE).map(lambda number: str(ipaddress.IPv4Address(number)))
v6 = st.integers(1, 2**64).map(lambda number: str(ipaddress.IPv6Address((0xFD00 << 112) + number)))
ipsets = st.lists(v4 | v6, max_size=3).map(IPSet.of)
port_numbers = st.integers(1, 65535)
protocols = st.sampled_from([Protocol.TCP, Protocol.UDP, Protocol.SCTP])
label_maps = st.dictionaries(words.filter(bool), words, max_size=2)
optional_ports = st.just(0) | port_numbers
few = st.sampled_from(["", "a", "0"])
mappings = st.builds(
    PortMapping,
    port_numbers,
    protocols,
    few,
    optional_ports,
    target_port=optional_ports,
    target_port_name=odd_names,
)
endpoint_ports = st.builds(EndpointPort, few, port_numbers, protocols)
hints = st.sets(names, max_size=2).map(lambda found: tuple(sorted(found)))
endpoint_infos = st.builds(
    EndpointInfo,
    addresses=ipsets.filter(bool),
    ports=st.lists(endpoint_ports, max_size=3, unique_by=lambda port: (port.name, port.protocol)).map(tuple),
    hostname=odd_names,
    pod_name=odd_names,
    node=odd_names,
    zone=odd_names,
    ready=st.booleans(),
    serving=st.booleans(),
    terminating=st.booleans(),
    zone_hints=hints,
    node_hints=hints,
)
nodes = st.builds(Node, name=names, zone=odd_names, labels=label_maps, annotations=label_maps)
services = st.builds(
    Service,
    namespace=names,
    name=names,
    type=st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]),
    cluster_ips=ipsets,
    external_ips=ipsets,
    load_balancer_ips=ipsets,
    headless=st.booleans(),
    ports=st.lists(mappings, max_size=3).map(tuple),
    internal_traffic_local=st.booleans(),
    external_traffic_local=st.booleans(),
    session_affinity_seconds=st.just(0) | st.integers(1, 86400),
    source_ranges=st.sets(st.sampled_from(["10.0.0.0/8", "0.0.0.0/0", "fd00::/8"])).map(tuple),
    health_check_node_port=optional_ports,
    labels=label_maps,
    annotations=label_maps,
)


@st.composite
def states(draw: st.DrawFn) -> State:
    state = State(nodes={node.name: node for node in draw(st.lists(nodes, max_size=2))})
    state.services = {service.key: service for service in draw(st.lists(services, max_size=3))}
    for key in state.services:
        for name in draw(st.sets(names, max_size=2)):
            endpoints = draw(st.lists(endpoint_infos, min_size=1, max_size=3))
            state.sources.setdefault((key.namespace, name), EndpointSource(key, tuple(endpoints)))
    return state


@given(states())
def test_what_is_written_reads_back_the_same(state: State) -> None:
    text = encode_state(state)
    assert good(text) == state
    assert encode_state(good(text)) == text


def test_order_in_memory_does_not_show_in_the_text() -> None:
    one, two = Service(namespace="a", name="x"), Service(namespace="a", name="y")
    forward = State(services={one.key: one, two.key: two})
    backward = State(services={two.key: two, one.key: one})
    assert encode_state(forward) == encode_state(backward)


def test_plain_states_are_written_without_additions() -> None:
    """So that the Go program, which refuses keys that it does not know, can read them."""
    text = encode_state(good(GO_FILE.replace("sourcename: web-x", "sourcename: web")))
    for addition in ("sessionaffinity", "serving", "terminating", "protocol: TCP", "protocol: UDP"):
        assert addition not in text
    assert "protocol: 2" in text


@pytest.mark.parametrize(
    ("mappings", "ports"),
    [
        ((PortMapping(80, name="a"),), (EndpointPort("a", 8080),)),
        ((PortMapping(80, Protocol.UDP, "a"),), (EndpointPort("a", 8080, Protocol.UDP),)),
        ((PortMapping(80, name="a"), PortMapping(81, name="b")), (EndpointPort("b", 8081),)),
        ((PortMapping(80, name="a"),), (EndpointPort("a", 8080), EndpointPort("metrics", 9090))),
        ((PortMapping(80),), (EndpointPort("", 8080),)),
        (
            (PortMapping(53, Protocol.UDP, "d"), PortMapping(53, name="d")),
            (EndpointPort("d", 5353, Protocol.UDP), EndpointPort("d", 5353)),
        ),
    ],
)
def test_a_protocol_is_written_only_where_it_says_something(
    mappings: tuple[PortMapping, ...], ports: tuple[EndpointPort, ...]
) -> None:
    state = State(services={WEB: Service(namespace=WEB.namespace, name=WEB.name, ports=mappings)})
    info = EndpointInfo(addresses=IPSet(("10.1.0.5",)), ports=ports)
    state.sources["default", "web"] = EndpointSource(WEB, (info,))
    text = encode_state(state)
    assert good(text) == state
    assert text.count("protocol:") == len(mappings)  # the Go program's reader refuses it in an override


def test_endpoints_without_their_service_are_left_out() -> None:
    source = EndpointSource(WEB, (EndpointInfo(addresses=IPSet(("10.1.0.5",))),))
    assert "10.1.0.5" not in encode_state(State(sources={("default", "web"): source}))


# -- fuzz ------------------------------------------------------------------------------------------

KEYS = [
    "nodes",
    "services",
    "service",
    "endpoints",
    "endpoint",
    "name",
    "ips",
    "v4",
    "ports",
    "port",
    "portoverrides",
    "clusterips",
    "topology",
    "hints",
    "zones",
    "conditions",
    "ready",
    "labels",
    "ipfilters",
    "sourceranges",
]
anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["10.1.0.5", "web"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=25,
)


@given(anything)
def test_anything_decodes_to_something(document: Any) -> None:
    state, problems = decode_state({"services": document, "nodes": document})
    for problem in problems:
        assert problem.subject
        assert problem.message
    encode_state(state)


@given(
    st.lists(st.fixed_dictionaries({"service": anything, "endpoints": st.lists(anything, max_size=3)}), max_size=3)
)
def test_any_services_decode_to_something(entries: list[Any]) -> None:
    state, _ = decode_state({"services": entries})
    assert decode_state(next(iter(load_documents(encode_state(state))))[1])[0] == state
