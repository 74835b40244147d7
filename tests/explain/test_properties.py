"""What holds whatever the cluster: an answer always, and one that fits together."""

from __future__ import annotations

import json
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from kpng.explain import (
    ClusterState,
    NodeState,
    Packet,
    Settings,
    Verdict,
    document,
    explain,
    text,
)
from kpng.localize import localize
from kpng.model import DetectLocalMode, EndpointInfo, EndpointPort, IPSet, LocalNode, PortMapping, Protocol, Service
from kpng.store import ServiceRecord

NUMBERS = (80, 81, 30080)
SERVED = ("10.96.0.1", "198.18.0.1", "192.0.2.10", "fd00::1", "2001:db8::a")
PODS = ("10.1.1.1", "10.1.1.2", "192.0.2.10", "fd00:1::1", "2001:db8::a")
EVERYWHERE = (*SERVED, *PODS, "127.0.0.1", "::1", "203.0.113.1")

addresses = st.lists(st.sampled_from(SERVED), max_size=2).map(IPSet.of)
protocols = st.sampled_from([Protocol.TCP, Protocol.UDP, Protocol.SCTP])
mappings = st.builds(
    PortMapping,
    port=st.sampled_from(NUMBERS),
    protocol=protocols,
    name=st.sampled_from(["", "http"]),
    node_port=st.sampled_from([0, 30080]),
    target_port=st.just(8080),
)
services = st.builds(
    Service,
    namespace=st.just("demo"),
    name=st.sampled_from(["a", "b", "c"]),
    cluster_ips=addresses,
    external_ips=addresses,
    load_balancer_ips=addresses,
    ports=st.lists(mappings, max_size=2).map(tuple),
    internal_traffic_local=st.booleans(),
    external_traffic_local=st.booleans(),
    session_affinity_seconds=st.sampled_from([0, 60]),
    source_ranges=st.sampled_from([(), ("10.1.0.0/16",), ("fd00::/8",), ("0.0.0.0/0",)]),
)
endpoint_ports = st.builds(EndpointPort, st.sampled_from(["", "http"]), st.just(8080), protocols)
infos = st.builds(
    EndpointInfo,
    addresses=st.lists(st.sampled_from(PODS), min_size=1, max_size=2).map(IPSet.of),
    ports=st.lists(endpoint_ports, max_size=2).map(tuple),
    node=st.sampled_from(["node-a", "node-b", ""]),
    ready=st.booleans(),
    serving=st.booleans(),
    terminating=st.booleans(),
    zone_hints=st.sampled_from([(), ("zone-a",), ("zone-b",)]),
    node_hints=st.sampled_from([(), ("node-a",), ("node-b",)]),
)
settings = st.builds(
    Settings,
    detect_local_mode=st.sampled_from(DetectLocalMode),
    cluster_cidrs=st.sampled_from([(), ("10.1.0.0/16",), ("fd00::/8",)]),
    pod_interface=st.just("cni0"),
    masquerade_all=st.booleans(),
    node_port_addresses=st.sampled_from([(), ("primary",), ("192.0.2.0/24",)]),
)
nodes = st.builds(
    LocalNode,
    name=st.just("node-a"),
    addresses=st.sampled_from([IPSet(), IPSet.of(["192.0.2.10", "2001:db8::a"])]),
    pod_cidrs=st.sampled_from([(), ("10.1.1.0/24",)]),
    service_cidrs=st.sampled_from([(), ("10.96.0.0/16",)]),
)


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    target = draw(st.sampled_from(EVERYWHERE))
    family = ip_address(target).version
    source = draw(st.sampled_from([each for each in EVERYWHERE if ip_address(each).version == family]))
    protocol = draw(st.sampled_from(Protocol))
    port = 0 if protocol is Protocol.UNKNOWN else draw(st.sampled_from(NUMBERS))
    return Packet(source, target, port, protocol, draw(st.sampled_from(["", "cni0", "eth0"])))


@st.composite
def states(draw: st.DrawFn) -> NodeState:
    zone = draw(st.sampled_from(["", "zone-a"]))
    node = draw(nodes)
    known = {each.key: (each, draw(st.lists(infos, max_size=4))) for each in draw(st.lists(services, max_size=3))}
    locals_ = {
        key: local
        for key, (service, each) in known.items()
        if (local := localize(ServiceRecord(key, service, {"slice": tuple(each)}), node.name, zone))
    }
    cluster = ClusterState({key: each for key, (_, each) in known.items()}, zone) if draw(st.booleans()) else None
    return NodeState(node, locals_, draw(settings), frozenset({"192.0.2.10"}), cluster)


@given(states(), packets())
def test_an_explanation_fits_together(state: NodeState, packet: Packet) -> None:
    found = explain(state, packet)
    assert bool(found.targets) == (found.verdict is Verdict.FORWARD) == bool(found.choice)
    assert found.reason
    assert found.sender.why
    assert found.frontend is not None or found.route is None
    assert found.route is not None or found.left_out is None
    assert found.packet == packet
    if found.route and state.cluster:
        assert found.left_out is not None
        assert not {str(each) for each in found.left_out} & {str(each) for each in found.targets}


@given(states(), packets())
def test_chosen_and_left_out_are_all_endpoints_that_have_the_family(state: NodeState, packet: Packet) -> None:
    found = explain(state, packet)
    if found.frontend is None or found.left_out is None or state.cluster is None:
        return
    all_of_them = {
        address
        for info in state.cluster.endpoints[found.frontend.service.key]
        for address in info.addresses.family(packet.family)
    }
    assert {each.address for each in (*found.targets, *found.left_out)} == all_of_them


@given(states(), packets())
def test_it_can_always_be_told(state: NodeState, packet: Packet) -> None:
    found = explain(state, packet)
    assert json.loads(json.dumps(document(found)))["verdict"] == found.verdict.value
    lines = text(found).splitlines()
    assert len(lines) >= 4
    assert all(line == line.rstrip() for line in lines)
    assert "moments" not in text(found), "the states are of one moment"


@given(states(), packets())
def test_less_known_is_no_other_answer(state: NodeState, packet: Packet) -> None:
    """The global state adds reasons; it never changes what happens."""
    alone = NodeState(state.node, state.services, state.settings, state.addresses)
    found, less = explain(state, packet), explain(alone, packet)
    assert (found.verdict, found.targets, found.reason) == (less.verdict, less.targets, less.reason)
