"""Messages to the byte, written down from the Go kpng's .proto files field by field: what a Go client must be sent,
and what a Go brain, which knows none of our additions, sends."""

from __future__ import annotations

from typing import Any

import pytest

from kpng.model import (
    Endpoint,
    EndpointInfo,
    EndpointPort,
    IPSet,
    Node,
    PortMapping,
    Protocol,
    Scopes,
    Service,
)
from kpng.wire.endpoint import (
    endpoint_from_wire,
    endpoint_info_from_wire,
    endpoint_info_to_wire,
    endpoint_to_wire,
)
from kpng.wire.lenient import Faults
from kpng.wire.node import node_from_wire, node_to_wire
from kpng.wire.ops import serialize
from kpng.wire.proto import globalv1_pb2 as globalv1
from kpng.wire.proto import localv1_pb2 as localv1
from kpng.wire.service import DEFAULT_AFFINITY_SECONDS, service_from_wire, service_to_wire


def number(value: int) -> bytes:
    """A varint, by hand."""
    out = b""
    while value >= 128:
        out += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return out + bytes((value,))


def varint(field: int, value: int) -> bytes:
    return number(field << 3) + number(value)


def inner(field: int, *parts: bytes | str) -> bytes:
    """A length-delimited field: text, or a message of fields."""
    content = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return number(field << 3 | 2) + number(len(content)) + content


def ips(field: int, v4: tuple[str, ...] = (), v6: tuple[str, ...] = ()) -> bytes:
    return inner(field, *(inner(1, text) for text in v4), *(inner(2, text) for text in v6))


NO_IPS = inner(4, ips(1), ips(2), ips(4))
"""ServiceIPs with three empty sets: a Go backend takes their address without looking."""


def service(**fields: Any) -> Service:
    return Service(namespace="demo", name="web", **fields)


HEAD = inner(1, "demo") + inner(2, "web")
KIND = inner(3, "ClusterIP")

SERVICES: dict[str, tuple[Service, bytes]] = {
    "nothing but a name": (service(), HEAD + KIND + NO_IPS),
    "a type": (service(type="NodePort"), HEAD + inner(3, "NodePort") + NO_IPS),
    "cluster IPs": (
        service(cluster_ips=IPSet(("10.96.0.10",), ("fd00::10",))),
        HEAD + KIND + inner(4, ips(1, ("10.96.0.10",), ("fd00::10",)), ips(2), ips(4)),
    ),
    "external IPs": (
        service(external_ips=IPSet(("192.0.2.1", "192.0.2.2"))),
        HEAD + KIND + inner(4, ips(1), ips(2, ("192.0.2.1", "192.0.2.2")), ips(4)),
    ),
    "balancer IPs": (
        service(load_balancer_ips=IPSet((), ("2001:db8::1",))),
        HEAD + KIND + inner(4, ips(1), ips(2), ips(4, (), ("2001:db8::1",))),
    ),
    "headless": (service(headless=True), HEAD + KIND + inner(4, ips(1), ips(2), varint(3, 1), ips(4))),
    "a port": (
        service(
            ports=(
                PortMapping(
                    port=53, protocol=Protocol.UDP, name="dns", node_port=30053, target_port=5353, available=3
                ),
            )
        ),
        HEAD
        + KIND
        + NO_IPS
        + inner(
            6,
            inner(1, "dns"),
            varint(2, 2),
            varint(3, 53),
            varint(4, 30053),
            varint(5, 5353),
            varint(7, 3),
        ),
    ),
    "a named target port": (
        service(ports=(PortMapping(port=80, target_port_name="http"),)),
        HEAD + KIND + NO_IPS + inner(6, varint(2, 1), varint(3, 80), inner(6, "http")),
    ),
    "external traffic stays": (service(external_traffic_local=True), HEAD + KIND + NO_IPS + varint(7, 1)),
    "labels, sorted": (
        service(labels={"b": "2", "a": "1"}),
        HEAD + KIND + NO_IPS + inner(8, inner(1, "a"), inner(2, "1")) + inner(8, inner(1, "b"), inner(2, "2")),
    ),
    "an annotation": (
        service(annotations={"k": ""}),
        HEAD + KIND + NO_IPS + inner(9, inner(1, "k"), inner(2, "")),
    ),
    "source ranges": (
        service(source_ranges=("192.0.2.0/24", "2001:db8::/32")),
        HEAD + KIND + NO_IPS + inner(10, inner(2, "192.0.2.0/24"), inner(2, "2001:db8::/32")),
    ),
    "affinity": (
        service(session_affinity_seconds=10800),
        HEAD + KIND + NO_IPS + inner(11, varint(1, 10800)),
    ),
    "internal traffic stays": (service(internal_traffic_local=True), HEAD + KIND + NO_IPS + varint(12, 1)),
    "a health check port": (service(health_check_node_port=32000), HEAD + KIND + NO_IPS + varint(13, 32000)),
}


@pytest.mark.parametrize("name", SERVICES)
def test_services_to_the_byte(name: str) -> None:
    model, encoded = SERVICES[name]
    assert serialize(service_to_wire(model)) == encoded


@pytest.mark.parametrize("name", SERVICES)
def test_services_from_the_byte(name: str) -> None:
    model, encoded = SERVICES[name]
    faults = Faults("Service demo/web")
    assert service_from_wire(localv1.Service.FromString(encoded), faults) == model
    assert faults.problems == []


SCOPES = inner(5, varint(1, 1), varint(2, 1))

ENDPOINTS: dict[str, tuple[Endpoint, bytes]] = {
    "an address": (Endpoint(addresses=IPSet(("10.1.0.1",))), ips(2, ("10.1.0.1",)) + SCOPES),
    "both families": (
        Endpoint(addresses=IPSet(("10.1.0.1",), ("fd00::1",))),
        ips(2, ("10.1.0.1",), ("fd00::1",)) + SCOPES,
    ),
    "a host name": (
        Endpoint(addresses=IPSet(("10.1.0.1",)), hostname="db-0"),
        inner(1, "db-0") + ips(2, ("10.1.0.1",)) + SCOPES,
    ),
    "local": (
        Endpoint(addresses=IPSet(("10.1.0.1",)), local=True),
        ips(2, ("10.1.0.1",)) + varint(3, 1) + SCOPES,
    ),
    "ports": (
        Endpoint(
            addresses=IPSet(("10.1.0.1",)),
            ports=(EndpointPort("http", 8080), EndpointPort("dns", 5353, Protocol.UDP)),
        ),
        ips(2, ("10.1.0.1",))
        + inner(4, inner(1, "http"), varint(2, 8080), varint(3, 1))
        + inner(4, inner(1, "dns"), varint(2, 5353), varint(3, 2))
        + SCOPES,
    ),
    "for traffic from inside only": (
        Endpoint(addresses=IPSet(("10.1.0.1",)), scopes=Scopes(True, False)),
        ips(2, ("10.1.0.1",)) + inner(5, varint(1, 1)),
    ),
    "for traffic from outside only": (
        Endpoint(addresses=IPSet(("10.1.0.1",)), scopes=Scopes(False, True)),
        ips(2, ("10.1.0.1",)) + inner(5, varint(2, 1)),
    ),
}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_endpoints_to_the_byte(name: str) -> None:
    model, encoded = ENDPOINTS[name]
    assert serialize(endpoint_to_wire(model)) == encoded


@pytest.mark.parametrize("name", ENDPOINTS)
def test_endpoints_from_the_byte(name: str) -> None:
    model, encoded = ENDPOINTS[name]
    assert endpoint_from_wire(localv1.Endpoint.FromString(encoded), Faults("Endpoint")) == model


REACH = inner(6, ips(2, ("10.1.0.1",)))
READY = inner(7, varint(1, 1))
NOWHERE = inner(9)


def info(**fields: Any) -> EndpointInfo:
    return EndpointInfo(addresses=IPSet(("10.1.0.1",)), **fields)


INFOS: dict[str, tuple[EndpointInfo, bytes]] = {
    "ready": (info(), REACH + READY + NOWHERE),
    "not ready": (info(ready=False, serving=False), REACH + inner(7) + NOWHERE),
    "terminating, serving": (
        info(ready=False, serving=True, terminating=True),
        REACH + inner(7, varint(2, 1), varint(3, 1)) + NOWHERE,
    ),
    "terminating, no longer serving": (
        info(ready=False, serving=False, terminating=True),
        REACH + inner(7, varint(3, 1)) + NOWHERE,
    ),
    "published though not ready": (
        info(ready=True, serving=False),
        REACH + inner(7, varint(1, 1), varint(2, 0)) + NOWHERE,
    ),
    "a pod": (info(pod_name="web-1"), REACH + READY + inner(8, "web-1") + NOWHERE),
    "a place": (
        info(node="n1", zone="za"),
        REACH + READY + inner(9, inner(1, "n1"), inner(2, "za")),
    ),
    "zone hints": (
        info(zone_hints=("za", "zb")),
        REACH + READY + NOWHERE + inner(10, inner(1, "za"), inner(1, "zb")),
    ),
    "node hints": (info(node_hints=("n1",)), REACH + READY + NOWHERE + inner(10, inner(2, "n1"))),
}


@pytest.mark.parametrize("name", INFOS)
def test_global_endpoints_to_the_byte(name: str) -> None:
    model, encoded = INFOS[name]
    assert serialize(endpoint_info_to_wire(model)) == encoded


@pytest.mark.parametrize("name", INFOS)
def test_global_endpoints_from_the_byte(name: str) -> None:
    model, encoded = INFOS[name]
    assert endpoint_info_from_wire(globalv1.EndpointInfo.FromString(encoded), Faults("Endpoint")) == model


def test_nodes_to_the_byte_and_back() -> None:
    node = Node(name="n1", zone="za", labels={"b": "2", "a": "1"}, annotations={"x": "y"})
    encoded = (
        inner(1, "n1")
        + inner(2, inner(1, "a"), inner(2, "1"))
        + inner(2, inner(1, "b"), inner(2, "2"))
        + inner(3, inner(1, "x"), inner(2, "y"))
        + inner(4, inner(1, "n1"), inner(2, "za"))
    )
    assert serialize(node_to_wire(node)) == encoded
    assert node_from_wire(globalv1.Node.FromString(encoded), Faults("Node n1")) == node


# What a Go brain sends: our fields are absent, and some of its own too

FROM_GO_ENDPOINTS: dict[str, tuple[bytes, Endpoint]] = {
    "no scopes": (ips(2, ("10.1.0.1",)), Endpoint(addresses=IPSet(("10.1.0.1",)))),
    "a port without protocol": (
        ips(2, ("10.1.0.1",)) + inner(4, inner(1, "http"), varint(2, 8080)) + SCOPES,
        Endpoint(addresses=IPSet(("10.1.0.1",)), ports=(EndpointPort("http", 8080, Protocol.UNKNOWN),)),
    ),
    "one address for each family, mixed up": (
        ips(2, ("fd00::1", "10.1.0.1")) + SCOPES,
        Endpoint(addresses=IPSet(("10.1.0.1",), ("fd00::1",))),
    ),
    "a field of the future": (
        ips(2, ("10.1.0.1",)) + SCOPES + inner(99, "what is this") + varint(100, 7),
        Endpoint(addresses=IPSet(("10.1.0.1",))),
    ),
    "a field twice: the last counts": (
        inner(1, "a") + inner(1, "b") + ips(2, ("10.1.0.1",)) + SCOPES,
        Endpoint(addresses=IPSet(("10.1.0.1",)), hostname="b"),
    ),
    "fields in another order": (
        SCOPES + varint(3, 1) + ips(2, ("10.1.0.1",)) + inner(1, "a"),
        Endpoint(addresses=IPSet(("10.1.0.1",)), hostname="a", local=True),
    ),
}


@pytest.mark.parametrize("name", FROM_GO_ENDPOINTS)
def test_what_a_go_brain_says_of_endpoints(name: str) -> None:
    encoded, model = FROM_GO_ENDPOINTS[name]
    faults = Faults("Endpoint")
    assert endpoint_from_wire(localv1.Endpoint.FromString(encoded), faults) == model
    assert faults.problems == []


FROM_GO_SERVICES: dict[str, tuple[bytes, Service]] = {
    "no type": (HEAD, service(type="")),
    "no IPs at all": (HEAD + KIND, service()),
    "affinity without seconds": (
        HEAD + KIND + inner(11),
        service(session_affinity_seconds=DEFAULT_AFFINITY_SECONDS),
    ),
    "an unset protocol is TCP": (
        HEAD + KIND + inner(6, varint(3, 80)),
        service(ports=(PortMapping(port=80),)),
    ),
    "two filters": (
        HEAD + KIND + inner(10, inner(2, "192.0.2.0/24")) + inner(10, inner(2, "198.51.100.0/24")),
        service(source_ranges=("192.0.2.0/24", "198.51.100.0/24")),
    ),
    "MapIP, which nobody reads": (HEAD + KIND + varint(5, 1), service()),
}


@pytest.mark.parametrize("name", FROM_GO_SERVICES)
def test_what_a_go_brain_says_of_services(name: str) -> None:
    encoded, model = FROM_GO_SERVICES[name]
    faults = Faults("Service demo/web")
    assert service_from_wire(localv1.Service.FromString(encoded), faults) == model
    assert faults.problems == []
