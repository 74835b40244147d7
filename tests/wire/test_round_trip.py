"""What goes into a message comes out of it, and out of a Go brain's messages what they meant there."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.model import (
    Endpoint,
    EndpointInfo,
    EndpointPort,
    InvalidObjectError,
    IPSet,
    LocalNode,
    Node,
    PortMapping,
    Protocol,
    Scopes,
    Service,
    check_endpoint_address,
    parse_address,
    parse_cidr,
)
from kpng.wire.endpoint import (
    close_ports,
    endpoint_from_wire,
    endpoint_info_from_wire,
    endpoint_info_to_wire,
    endpoint_to_wire,
    is_open,
)
from kpng.wire.lenient import Faults
from kpng.wire.node import local_node_from_wire, local_node_to_wire, node_from_wire, node_to_wire
from kpng.wire.ops import serialize
from kpng.wire.proto import globalv1_pb2 as globalv1
from kpng.wire.proto import localv1_pb2 as localv1
from kpng.wire.service import service_from_wire, service_to_wire


def _usable(address: str) -> bool:
    try:
        return bool(check_endpoint_address(address))
    except InvalidObjectError:
        return False


names = st.from_regex(r"[a-z]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
ports = st.integers(1, 65535)
protocols = st.sampled_from([Protocol.TCP, Protocol.UDP, Protocol.SCTP])
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(lambda a: parse_address(str(a)))
address_sets = st.lists(addresses, max_size=4).map(IPSet.of)
labels = st.dictionaries(texts, texts, max_size=3)
cidrs = st.tuples(addresses, st.integers(0, 32)).map(lambda pair: parse_cidr(f"{pair[0]}/{pair[1]}"))

port_mappings = st.builds(
    PortMapping,
    port=ports,
    protocol=protocols,
    name=names | st.just(""),
    node_port=st.just(0) | ports,
    target_port=st.just(0) | ports,
    target_port_name=names | st.just(""),
    available=st.integers(0, 3),
)
services = st.builds(
    Service,
    namespace=names,
    name=names,
    type=st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
    cluster_ips=address_sets,
    external_ips=address_sets,
    load_balancer_ips=address_sets,
    headless=st.booleans(),
    ports=st.lists(port_mappings, max_size=4).map(tuple),
    internal_traffic_local=st.booleans(),
    external_traffic_local=st.booleans(),
    session_affinity_seconds=st.integers(0, 86400),
    source_ranges=st.lists(cidrs, max_size=3).map(tuple),
    health_check_node_port=st.just(0) | ports,
    labels=labels,
    annotations=labels,
)
endpoint_ports = st.lists(st.builds(EndpointPort, name=names, port=ports, protocol=protocols), max_size=3).map(
    tuple
)
endpoint_addresses = st.lists(addresses.filter(_usable), min_size=1, max_size=3).map(IPSet.of)
endpoints = st.builds(
    Endpoint,
    addresses=endpoint_addresses,
    ports=endpoint_ports,
    scopes=st.builds(Scopes, st.booleans(), st.booleans(), st.booleans()),
    local=st.booleans(),
    terminating=st.booleans(),
    hostname=names | st.just(""),
)
hints = st.lists(names, max_size=3).map(lambda values: tuple(sorted(values)))
infos = st.builds(
    EndpointInfo,
    addresses=endpoint_addresses,
    ports=endpoint_ports,
    hostname=names | st.just(""),
    pod_name=names | st.just(""),
    node=names | st.just(""),
    zone=names | st.just(""),
    ready=st.booleans(),
    serving=st.booleans(),
    terminating=st.booleans(),
    zone_hints=hints,
    node_hints=hints,
)
node_fields: dict[str, st.SearchStrategy[object]] = {
    "name": names,
    "addresses": st.lists(addresses, max_size=2).map(IPSet.of),
    "pod_cidrs": st.lists(cidrs, max_size=2).map(tuple),
    "eligible": st.booleans(),
}
nodes = st.builds(Node, zone=names, labels=labels, annotations=labels, **node_fields)
local_nodes = st.builds(LocalNode, service_cidrs=st.lists(cidrs, max_size=3).map(tuple), **node_fields)


@given(services)
def test_services_come_back_as_they_went(service: Service) -> None:
    faults = Faults("Service")
    data = serialize(service_to_wire(service))
    assert service_from_wire(localv1.Service.FromString(data), faults) == service
    assert faults.problems == []


@given(endpoints)
def test_local_endpoints_come_back_as_they_went(endpoint: Endpoint) -> None:
    faults = Faults("Endpoint")
    data = serialize(endpoint_to_wire(endpoint))
    assert endpoint_from_wire(localv1.Endpoint.FromString(data), faults) == endpoint
    assert faults.problems == []


@given(infos)
def test_global_endpoints_come_back_as_they_went(info: EndpointInfo) -> None:
    faults = Faults("Endpoint")
    data = serialize(endpoint_info_to_wire(info))
    assert endpoint_info_from_wire(globalv1.EndpointInfo.FromString(data), faults) == info
    assert faults.problems == []


@given(nodes)
def test_nodes_come_back_as_they_went(node: Node) -> None:
    faults = Faults("Node")
    data = serialize(node_to_wire(node))
    assert node_from_wire(globalv1.Node.FromString(data), faults) == node
    assert faults.problems == []


@given(local_nodes)
def test_a_node_comes_back_as_it_sees_itself(node: LocalNode) -> None:
    faults = Faults("Node")
    data = serialize(local_node_to_wire(node))
    assert local_node_from_wire(localv1.Node.FromString(data), faults) == node
    assert faults.problems == []


@given(services, st.randoms())
def test_equal_services_have_equal_bytes(service: Service, random: st.DataObject) -> None:
    shuffled = list(service.labels.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = service_to_wire(service)
    again.ClearField("Labels")
    for key, value in shuffled:
        again.Labels[key] = value
    assert serialize(again) == serialize(service_to_wire(service))


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything(data: bytes) -> None:
    """Whatever parses as a message converts, or gives problems; it never ends the stream."""
    faults = Faults("Thing")
    service = faults.message(localv1.Service, data)
    endpoint = faults.message(localv1.Endpoint, data)
    info = faults.message(globalv1.EndpointInfo, data)
    node = faults.message(globalv1.Node, data)
    if service:
        service_from_wire(service, faults)
    if endpoint:
        endpoint_from_wire(endpoint, faults)
    if info:
        endpoint_info_from_wire(info, faults)
    if node:
        node_from_wire(node, faults)
    assert all(problem.subject == "Thing" for problem in faults.problems)


# -- what a Go brain sends, which knows none of the new fields --------------------------------------------


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP, Protocol.SCTP])
def test_a_port_without_protocol_serves_the_service_port_of_that_name(protocol: Protocol) -> None:
    message = localv1.Endpoint(
        IPs=localv1.IPSet(V4=["10.1.0.5"]), PortOverrides=[localv1.PortName(Name="dns", Port=5353)]
    )
    endpoint = endpoint_from_wire(message, Faults("Endpoint"))
    assert endpoint is not None
    assert is_open(endpoint.ports)
    dns, http = (
        PortMapping(port=53, protocol=protocol, name="dns"),
        PortMapping(port=80, protocol=protocol, name="http"),
    )
    ports = close_ports(endpoint.ports, [http, dns])
    assert ports == (EndpointPort("dns", 5353, protocol),)
    assert not is_open(ports)
    assert close_ports(ports, [http]) == ports
    assert close_ports(endpoint.ports, [http]) == (EndpointPort("dns", 5353),)


@pytest.mark.parametrize(
    ("conditions", "ready", "serving", "terminating"),
    [
        (None, True, True, False),
        (globalv1.EndpointConditions(Ready=True), True, True, False),
        (globalv1.EndpointConditions(Ready=False), False, False, False),
        (globalv1.EndpointConditions(Ready=False, Serving=True, Terminating=True), False, True, True),
        (globalv1.EndpointConditions(Ready=True, Serving=False), True, False, False),
    ],
)
def test_conditions_default_to_what_a_go_brain_means(
    conditions: globalv1.EndpointConditions | None, ready: bool, serving: bool, terminating: bool
) -> None:
    message = globalv1.EndpointInfo(
        Endpoint=localv1.Endpoint(IPs=localv1.IPSet(V4=["10.1.0.5"])), Conditions=conditions
    )
    info = endpoint_info_from_wire(message, Faults("Endpoint"))
    assert info is not None
    assert (info.ready, info.serving, info.terminating) == (ready, serving, terminating)


def test_a_go_client_reads_readiness_where_it_always_was() -> None:
    """The Go kpng drops an endpoint that has conditions and is not ready, and knows nothing else."""
    for ready in (True, False):
        message = endpoint_info_to_wire(EndpointInfo(addresses=IPSet(("10.1.0.5",)), ready=ready, serving=True))
        assert message.HasField("Conditions")
        assert message.Conditions.Ready is ready


def test_scopes_left_out_limit_nothing() -> None:
    endpoint = endpoint_from_wire(localv1.Endpoint(IPs=localv1.IPSet(V4=["10.1.0.5"])), Faults("Endpoint"))
    assert endpoint is not None
    assert endpoint.scopes == Scopes(internal=True, external=True)


def test_a_node_without_topology_takes_its_zone_from_its_label() -> None:
    message = globalv1.Node(Name="n1", Labels={"topology.kubernetes.io/zone": "za"})
    node = node_from_wire(message, Faults("Node"))
    assert node is not None
    assert node.zone == "za"


def test_affinity_without_a_timeout_has_kubernetes_default() -> None:
    message = localv1.Service(Namespace="demo", Name="web", ClientIP=localv1.ClientIPAffinity())
    service = service_from_wire(message, Faults("Service"))
    assert service is not None
    assert service.session_affinity_seconds == 10800


def test_a_port_without_protocol_is_tcp() -> None:
    message = localv1.Service(Namespace="demo", Name="web", Ports=[localv1.PortMapping(Port=80)])
    service = service_from_wire(message, Faults("Service"))
    assert service is not None
    assert service.ports == (PortMapping(port=80, protocol=Protocol.TCP),)


def test_addresses_sort_into_their_family_wherever_they_stand() -> None:
    ips = localv1.IPSet(V4=["fd00::1", "10.1.0.5"], V6=["::ffff:10.1.0.6"])
    endpoint = endpoint_from_wire(localv1.Endpoint(IPs=ips), Faults("Endpoint"))
    assert endpoint is not None
    assert endpoint.addresses == IPSet(
        (str(IPv4Address("10.1.0.5")), str(IPv4Address("10.1.0.6"))), (str(IPv6Address("fd00::1")),)
    )
