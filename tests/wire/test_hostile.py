"""Messages that parse but hold nonsense: they convert, whole or in part, or are left out; they never raise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.model import check_endpoint_address, is_name, parse_address
from kpng.wire.endpoint import endpoint_from_wire, endpoint_info_from_wire
from kpng.wire.lenient import Faults
from kpng.wire.node import node_from_wire
from kpng.wire.paths import GlobalPath, parse_local_endpoint, parse_local_service
from kpng.wire.proto import globalv1_pb2 as globalv1
from kpng.wire.proto import localv1_pb2 as localv1
from kpng.wire.service import service_from_wire

texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        [
            "10.1.0.5",
            "10.1.0.5/8",
            "fe80::1%eth0",
            "::ffff:127.0.0.1",
            "1.2.3",
            "\0",
            "10.0.0.0/-1",
            "::/129",
            "٣.1.1.1",
            "web",
            'q"; flush',
            "a\nb",
        ]
    ),
)
numbers = st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(0, 70000))
protocols = st.integers(-1, 5)


def lists(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    return st.lists(strategy, max_size=3)


ip_sets = st.builds(localv1.IPSet, V4=lists(texts), V6=lists(texts))
services = st.builds(
    localv1.Service,
    Namespace=texts,
    Name=texts,
    Type=texts,
    IPs=st.builds(localv1.ServiceIPs, ClusterIPs=ip_sets, ExternalIPs=ip_sets, LoadBalancerIPs=ip_sets),
    Ports=lists(
        st.builds(
            localv1.PortMapping,
            Name=texts,
            Protocol=protocols,
            Port=numbers,
            NodePort=numbers,
            TargetPort=numbers,
            TargetPortName=texts,
            Available=st.integers(0, 2**32 - 1),
        )
    ),
    IPFilters=lists(st.builds(localv1.IPFilter, SourceRanges=lists(texts))),
    ClientIP=st.none() | st.builds(localv1.ClientIPAffinity, TimeoutSeconds=numbers),
    HealthCheckNodePort=numbers,
)
endpoints = st.builds(
    localv1.Endpoint,
    Hostname=texts,
    IPs=ip_sets,
    PortOverrides=lists(st.builds(localv1.PortName, Name=texts, Port=numbers, Protocol=protocols)),
)


@given(services)
def test_what_is_left_of_a_service_is_sound(message: localv1.Service) -> None:
    service = service_from_wire(message, Faults("Service"))
    assert (service is None) == (not is_name(message.Namespace) or not is_name(message.Name))
    if service is None:
        return
    assert service.type.isalpha() or not service.type
    for addresses in (service.cluster_ips, service.external_ips, service.load_balancer_ips):
        assert all(parse_address(address) == address for address in addresses.all())
    for port in service.ports:
        assert 1 <= port.port <= 65535
        assert 0 <= port.node_port <= 65535
        assert 0 <= port.target_port <= 65535
        assert port.protocol
        assert all(not name or is_name(name) for name in (port.name, port.target_port_name))
    assert 0 <= service.health_check_node_port <= 65535
    assert service.session_affinity_seconds >= 0


@given(endpoints)
def test_what_is_left_of_an_endpoint_is_sound(message: localv1.Endpoint) -> None:
    faults = Faults("Endpoint")
    endpoint = endpoint_from_wire(message, faults)
    info = endpoint_info_from_wire(globalv1.EndpointInfo(Endpoint=message), Faults("Endpoint"))
    assert (endpoint is None) == (info is None)
    if endpoint is None:
        assert faults.problems
        return
    assert endpoint.addresses
    assert all(check_endpoint_address(address) == address for address in endpoint.addresses.all())
    assert all(1 <= port.port <= 65535 and port.protocol for port in endpoint.ports)
    assert bool(endpoint.ports) == bool(message.PortOverrides)
    assert all(not name or is_name(name) for name in (endpoint.hostname, *(port.name for port in endpoint.ports)))


@given(
    st.builds(
        globalv1.EndpointInfo,
        Endpoint=st.just(localv1.Endpoint(IPs=localv1.IPSet(V4=["10.1.0.5"]))),
        PodName=texts,
        Topology=st.builds(globalv1.TopologyInfo, Node=texts, Zone=texts),
        Hints=st.builds(globalv1.EndpointHints, Zones=lists(texts), Nodes=lists(texts)),
    )
)
def test_what_an_endpoint_is_named_by_is_a_name_or_nothing(message: globalv1.EndpointInfo) -> None:
    faults = Faults("Endpoint")
    info = endpoint_info_from_wire(message, faults)
    assert info
    given = [
        message.PodName,
        message.Topology.Node,
        message.Topology.Zone,
        *message.Hints.Zones,
        *message.Hints.Nodes,
    ]
    left = [info.pod_name, info.node, info.zone, *info.zone_hints, *info.node_hints]
    assert all(is_name(name.lower().replace("_", "-")) for name in left if name)
    assert bool(faults.problems) == (
        len(list(filter(None, left))) < len(list(filter(None, given))) or "" in given[3:]
    )


@given(st.builds(globalv1.Node, Name=texts, Topology=st.builds(globalv1.TopologyInfo, Zone=texts)))
def test_a_node_has_a_name_that_is_one(message: globalv1.Node) -> None:
    faults = Faults("Node")
    node = node_from_wire(message, faults)
    assert (node is None) == (not is_name(message.Name))
    assert faults.problems or (node and node.zone == message.Topology.Zone)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "demo",
        "demo/",
        "/web",
        "demo/web\n",
        "Demo/web",
        "demo/web/pod 1",
        'demo/web/"',
        "demo/web/" + "a" * 2000,
    ],
)
def test_a_path_that_no_kpng_makes_is_none(path: str) -> None:
    assert parse_local_service(path) is None
    assert parse_local_endpoint(path) is None


@pytest.mark.parametrize(
    "path", ["demo|web|", "demo|web\n||", "demo|web|s 1|ab", "demo|we b||", "|../n||", "a|b|c|d|e"]
)
def test_a_global_path_that_no_kpng_makes_is_none(path: str) -> None:
    assert GlobalPath.parse(path) is None
