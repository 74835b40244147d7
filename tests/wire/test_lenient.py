"""Bad objects: each fault is named, costs as little as it can, and never the rest."""

from __future__ import annotations

import pytest

from kpng.model import EndpointPort, IPSet, Protocol
from kpng.wire.endpoint import endpoint_from_wire, endpoint_info_from_wire
from kpng.wire.lenient import Faults
from kpng.wire.node import node_from_wire
from kpng.wire.proto import globalv1_pb2 as globalv1
from kpng.wire.proto import localv1_pb2 as localv1
from kpng.wire.service import service_from_wire

GOOD_PORT = localv1.PortMapping(Port=80, Protocol=localv1.TCP)


def good_service(**changes: object) -> localv1.Service:
    fields: dict[str, object] = {"Namespace": "demo", "Name": "web", "Ports": [GOOD_PORT]}
    return localv1.Service(**(fields | changes))  # type: ignore[arg-type]


SERVICE_FAULTS = [
    (
        {"IPs": localv1.ServiceIPs(ClusterIPs=localv1.IPSet(V4=["10.96.0.999"]))},
        "spec.clusterIPs",
        "'10.96.0.999' is not an IP address",
    ),
    (
        {"IPs": localv1.ServiceIPs(ExternalIPs=localv1.IPSet(V6=["; rm -rf /"]))},
        "spec.externalIPs",
        "'; rm -rf /' is not an IP address",
    ),
    (
        {"IPs": localv1.ServiceIPs(LoadBalancerIPs=localv1.IPSet(V4=[""]))},
        "status.loadBalancer",
        "'' is not an IP address",
    ),
    ({"HealthCheckNodePort": 70000}, "spec.healthCheckNodePort", "70000 is not a port (1-65535)"),
    (
        {"Ports": [localv1.PortMapping(Port=70000, Protocol=1), GOOD_PORT]},
        "spec.ports[0].port",
        "70000 is not a port (1-65535)",
    ),
    (
        {"Ports": [GOOD_PORT, localv1.PortMapping(Port=0, Protocol=1)]},
        "spec.ports[1].port",
        "0 is not a port (1-65535)",
    ),
    (
        {"Ports": [localv1.PortMapping(Port=80, Protocol=9), GOOD_PORT]},  # type: ignore[arg-type]
        "spec.ports[0].protocol",
        "9 is not a protocol",
    ),
    (
        {"IPFilters": [localv1.IPFilter(SourceRanges=["10.0.0.0/8", "10.0.0.0/40"])]},
        "spec.loadBalancerSourceRanges",
        "'10.0.0.0/40' is not a CIDR",
    ),
]


@pytest.mark.parametrize(("changes", "field", "message"), SERVICE_FAULTS)
def test_a_bad_field_of_a_service_costs_that_field(changes: dict[str, object], field: str, message: str) -> None:
    faults = Faults("Service demo/web", "brain:12090")
    service = service_from_wire(good_service(**changes), faults)
    assert service is not None
    assert [port.port for port in service.ports] == [80]
    assert not service.cluster_ips
    assert not service.health_check_node_port
    assert [str(problem) for problem in faults.problems] == [f"brain:12090: Service demo/web: {field}: {message}"]


def test_a_bad_node_port_leaves_the_port_itself() -> None:
    faults = Faults("Service demo/web")
    port = localv1.PortMapping(Port=80, Protocol=localv1.TCP, NodePort=-1, TargetPort=99999)
    service = service_from_wire(good_service(Ports=[port]), faults)
    assert service is not None
    assert (service.ports[0].port, service.ports[0].node_port, service.ports[0].target_port) == (80, 0, 0)
    assert [problem.field for problem in faults.problems] == ["spec.ports[0].nodePort", "spec.ports[0].targetPort"]


@pytest.mark.parametrize(("namespace", "name"), [("", "web"), ("demo", ""), ("", "")])
def test_a_service_without_a_name_is_left_out(namespace: str, name: str) -> None:
    faults = Faults("Service")
    assert service_from_wire(localv1.Service(Namespace=namespace, Name=name), faults) is None
    assert [problem.field for problem in faults.problems] == ["metadata.name"]


def test_source_ranges_that_are_all_bad_do_not_open_the_balancer_to_everybody() -> None:
    faults = Faults("Service demo/web")
    ips = localv1.ServiceIPs(
        ClusterIPs=localv1.IPSet(V4=["10.96.0.1"]), LoadBalancerIPs=localv1.IPSet(V4=["192.0.2.1"])
    )
    message = good_service(IPs=ips, IPFilters=[localv1.IPFilter(SourceRanges=["everybody"])])
    service = service_from_wire(message, faults)
    assert service is not None
    assert service.load_balancer_ips == IPSet()
    assert service.cluster_ips == IPSet(("10.96.0.1",))


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("255.255.255.255", "broadcast"),
    ],
)
def test_an_endpoint_at_a_forbidden_address_is_left_out(address: str, kind: str) -> None:
    message = localv1.Endpoint(IPs=localv1.IPSet(V4=[address]))
    local, global_ = Faults("Endpoint"), Faults("Endpoint")
    assert endpoint_from_wire(message, local) is None
    assert endpoint_info_from_wire(globalv1.EndpointInfo(Endpoint=message), global_) is None
    assert local.problems == global_.problems
    assert kind in local.problems[0].message


def test_an_endpoint_keeps_its_good_addresses() -> None:
    faults = Faults("Endpoint")
    ips = localv1.IPSet(V4=["10.1.0.5", "127.0.0.1"], V6=["fd00::5"])
    endpoint = endpoint_from_wire(localv1.Endpoint(IPs=ips), faults)
    assert endpoint is not None
    assert endpoint.addresses == IPSet(("10.1.0.5",), ("fd00::5",))
    assert len(faults.problems) == 1


def test_an_endpoint_keeps_its_good_ports() -> None:
    faults = Faults("Endpoint")
    ports = [
        localv1.PortName(Name="http", Port=8080, Protocol=localv1.TCP),
        localv1.PortName(Name="dns", Port=70000, Protocol=localv1.UDP),
    ]
    endpoint = endpoint_from_wire(localv1.Endpoint(IPs=localv1.IPSet(V4=["10.1.0.5"]), PortOverrides=ports), faults)
    assert endpoint is not None
    assert endpoint.ports == (EndpointPort("http", 8080, Protocol.TCP),)
    assert [problem.field for problem in faults.problems] == ["ports[1]"]


def test_an_endpoint_whose_ports_are_all_bad_is_not_one_without_ports() -> None:
    """Without ports, it would serve every port of the service."""
    faults = Faults("Endpoint")
    ports = [localv1.PortName(Name="http", Port=70000)]
    message = localv1.Endpoint(IPs=localv1.IPSet(V4=["10.1.0.5"]), PortOverrides=ports)
    assert endpoint_from_wire(message, faults) is None
    assert [problem.field for problem in faults.problems] == ["ports[0]", "ports"]


def test_a_port_of_an_endpoint_with_a_protocol_yet_to_be_invented_is_left_out() -> None:
    faults = Faults("Endpoint")
    ports = [
        localv1.PortName(Name="quic", Port=443, Protocol=9),
        localv1.PortName(Name="http", Port=80, Protocol=1),
    ]  # type: ignore[arg-type]
    message = localv1.Endpoint(IPs=localv1.IPSet(V4=["10.1.0.5"]), PortOverrides=ports)
    endpoint = endpoint_from_wire(message, faults)
    assert endpoint is not None
    assert endpoint.ports == (EndpointPort("http", 80),)
    assert [str(problem) for problem in faults.problems] == ["Endpoint: ports[0]: 9 is not a protocol"]


def test_an_endpoint_without_an_address_is_left_out() -> None:
    faults = Faults("Endpoint")
    assert endpoint_from_wire(localv1.Endpoint(), faults) is None
    assert [problem.message for problem in faults.problems] == ["no usable address, endpoint left out"]


def test_a_node_without_a_name_is_left_out() -> None:
    faults = Faults("Node")
    assert node_from_wire(globalv1.Node(Labels={"a": "b"}), faults) is None
    assert [problem.field for problem in faults.problems] == ["metadata.name"]


def test_bytes_that_are_no_message_are_a_fault() -> None:
    faults = Faults("Service demo/web")
    assert faults.message(localv1.Service, b"\xff\xff\xff") is None
    assert str(faults.problems[0]) == "Service demo/web: 3 bytes that are no localv1.Service"


def test_text_that_is_no_utf8_is_a_fault() -> None:
    faults = Faults("Service demo/web")
    assert faults.message(localv1.Service, b"\x0a\x02\xc3\x28") is None
    assert len(faults.problems) == 1


def test_ports_are_kept_as_one_object_and_bad_ones_are_named_each_time() -> None:
    ports = [localv1.PortName(Name="http", Port=80, Protocol=localv1.TCP), localv1.PortName(Name="dns", Port=53)]
    bad = [ports[0], localv1.PortName(Name="http", Port=70000)]
    one, other = (
        endpoint_from_wire(localv1.Endpoint(IPs=localv1.IPSet(V4=[address]), PortOverrides=ports), Faults("it"))
        for address in ("10.1.0.1", "10.1.0.2")
    )
    assert one is not None
    assert other is not None
    assert one.ports is other.ports
    assert one.ports == (EndpointPort("http", 80), EndpointPort("dns", 53, Protocol.UNKNOWN))
    for _ in range(2):
        faults = Faults("it")
        message = localv1.Endpoint(IPs=localv1.IPSet(V4=["10.1.0.1"]), PortOverrides=bad)
        endpoint = endpoint_from_wire(message, faults)
        assert endpoint is not None
        assert endpoint.ports == (EndpointPort("http", 80),)
        assert [problem.field for problem in faults.problems] == ["ports[1]"]
