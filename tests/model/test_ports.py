from __future__ import annotations

import pytest

from kpng.model import EndpointPort, Protocol, ServiceKey, resolve_port
from kpng.testing import endpoint, port, ports, service

HTTP = EndpointPort("http", 8080)
DNS = EndpointPort("dns", 53, Protocol.UDP)
DNS_TCP = EndpointPort("dns", 5353, Protocol.TCP)

# (the endpoint's ports, the service's port, what the endpoint serves it on)
RESOLVED = [
    ((HTTP,), "http=80", 8080),
    ((HTTP,), "http=8080:9999", 8080),  # A20: by name and protocol, never by number
    ((HTTP,), "web=80:8080", 0),
    ((HTTP,), "http=80/UDP", 0),
    ((HTTP,), "80:8080", 0),
    ((EndpointPort("", 8080),), "80", 8080),  # A20: "" is a name like any other
    ((EndpointPort("", 8080),), "http=80", 0),
    ((HTTP, DNS, DNS_TCP), "dns=53/UDP", 53),
    ((DNS, DNS_TCP), "dns=53/TCP", 5353),
    ((), "80:8080", 8080),  # a Go kpng state file: the service's own target port holds
    ((), "80", 80),
    ((), "80:http", 0),  # nobody can say which number that name has
]


@pytest.mark.parametrize(("offered", "wanted", "number"), RESOLVED)
def test_which_port_an_endpoint_serves(offered: tuple[EndpointPort, ...], wanted: str, number: int) -> None:
    assert resolve_port(offered, port(wanted)) == number


def test_an_endpoint_knows_its_port_for_a_mapping() -> None:
    assert endpoint("10.1.0.1", port="http=8080").port_for(port("http=80")) == 8080


def test_keys_read_as_kubernetes_writes_them() -> None:
    assert str(ServiceKey("demo", "web")) == "demo/web"
    assert service("demo/web").key == ServiceKey("demo", "web")
    assert sorted([ServiceKey("b", "a"), ServiceKey("a", "z")])[0].namespace == "a"


BUILT = [
    ("80", (80, Protocol.TCP, "", 0, 80, "")),
    ("80:8080", (80, Protocol.TCP, "", 0, 8080, "")),
    ("53/UDP", (53, Protocol.UDP, "", 0, 53, "")),
    ("http=80:web/SCTP@30080", (80, Protocol.SCTP, "http", 30080, 0, "web")),
]


@pytest.mark.parametrize(("text", "fields"), BUILT)
def test_the_builder_of_ports(text: str, fields: tuple[object, ...]) -> None:
    made = port(text)
    assert (
        made.port,
        made.protocol,
        made.name,
        made.node_port,
        made.target_port,
        made.target_port_name,
    ) == fields


@pytest.mark.parametrize("text", ["", "http", "80:", "80/", "80@", "=80", "80 81"])
def test_the_builder_refuses_what_it_cannot_read(text: str) -> None:
    with pytest.raises(ValueError, match="NAME="):
        port(text)


def test_several_ports() -> None:
    assert [p.port for p in ports("80 443/TCP dns=53/UDP")] == [80, 443, 53]
    assert ports("") == ()
