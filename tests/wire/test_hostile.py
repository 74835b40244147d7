"""Messages that parse but hold nonsense: they convert, whole or in part, or are left out; they never raise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kpng.model import check_endpoint_address, parse_address
from kpng.wire.endpoint import endpoint_from_wire, endpoint_info_from_wire
from kpng.wire.lenient import Faults
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
    assert (service is None) == (not message.Namespace or not message.Name)
    if service is None:
        return
    for addresses in (service.cluster_ips, service.external_ips, service.load_balancer_ips):
        assert all(parse_address(address) == address for address in addresses.all())
    for port in service.ports:
        assert 1 <= port.port <= 65535
        assert 0 <= port.node_port <= 65535
        assert 0 <= port.target_port <= 65535
        assert port.protocol
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
