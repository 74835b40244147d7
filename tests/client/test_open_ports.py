"""Endpoints of a Go brain, which tells no protocols of their ports."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kpng.client.open_ports import OpenPorts
from kpng.model import Endpoint, EndpointPort, IPSet, PortMapping, Protocol, Service, ServiceKey
from kpng.wire.endpoint import is_open

WEB = ServiceKey("demo", "web")
TCP, UDP, UNKNOWN = Protocol.TCP, Protocol.UDP, Protocol.UNKNOWN
Rows = dict[ServiceKey, dict[str, Endpoint | None]]


def service(*ports: PortMapping) -> Service:
    return Service(namespace="demo", name="web", ports=ports)


def endpoint(*ports: EndpointPort) -> Endpoint:
    return Endpoint(addresses=IPSet(("10.1.0.5",)), ports=ports)


class Rounds:
    """What comes, and what is left of it."""

    def __init__(self) -> None:
        self.ports = OpenPorts[ServiceKey, Endpoint](lambda key: key)

    def take(self, new: Service | str | None, rows: dict[str, Endpoint | None], *, whole: bool = False) -> Rows:
        endpoints: Rows = {WEB: rows} if rows else {}
        services = {} if isinstance(new, str) else {WEB: new}
        any_open = any(endpoint is not None and is_open(endpoint.ports) for endpoint in rows.values())
        self.ports.close(services, endpoints, whole=whole, any_open=any_open)
        return endpoints


SAME = "nothing said of the service"
DNS = endpoint(EndpointPort("dns", 5353, UNKNOWN))
DNS_UDP, DNS_TCP = endpoint(EndpointPort("dns", 5353, UDP)), endpoint(EndpointPort("dns", 5353))


def test_a_port_has_the_protocols_that_the_service_has_under_its_name() -> None:
    both = service(PortMapping(53, UDP, "dns"), PortMapping(53, TCP, "dns"), PortMapping(9, Protocol.SCTP, "x"))
    closed = endpoint(EndpointPort("dns", 5353, UDP), EndpointPort("dns", 5353, TCP))
    assert Rounds().take(both, {"a": DNS}, whole=True) == {WEB: {"a": closed}}


def test_a_port_that_the_service_does_not_have_is_tcp() -> None:
    assert Rounds().take(service(), {"a": DNS}) == {WEB: {"a": DNS_TCP}}


def test_what_tells_its_protocol_keeps_it() -> None:
    assert Rounds().take(service(PortMapping(53, UDP, "dns")), {"a": DNS_TCP}) == {WEB: {"a": DNS_TCP}}


def test_endpoints_follow_the_ports_of_their_service() -> None:
    rounds = Rounds()
    assert rounds.take(SAME, {"a": DNS, "b": DNS_TCP}) == {WEB: {"a": DNS_TCP, "b": DNS_TCP}}
    assert rounds.take(service(PortMapping(53, UDP, "dns")), {}) == {WEB: {"a": DNS_UDP}}
    assert rounds.take(service(PortMapping(53, TCP, "dns")), {"c": DNS}) == {WEB: {"a": DNS_TCP, "c": DNS_TCP}}
    assert rounds.take(None, {"a": None, "c": None}) == {WEB: {"a": None, "c": None}}
    assert rounds.take(service(PortMapping(53, UDP, "dns")), {}) == {}


def test_after_a_reset_nothing_is_left_of_before() -> None:
    rounds = Rounds()
    rounds.take(service(PortMapping(53, UDP, "dns")), {"a": DNS})
    assert rounds.take(SAME, {"b": DNS}, whole=True) == {WEB: {"b": DNS_TCP}}
    assert rounds.take(service(PortMapping(53, UDP, "dns")), {}) == {WEB: {"b": DNS_UDP}}


protocols = st.sampled_from([TCP, UDP])
mappings = st.lists(st.builds(PortMapping, st.just(53), protocols, st.sampled_from(["", "a", "b"])), max_size=3)
endpoints = st.builds(
    endpoint, st.builds(EndpointPort, st.sampled_from(["", "a", "b"]), st.just(53), protocols | st.just(UNKNOWN))
)
steps = st.tuples(
    st.just(SAME) | st.none() | mappings.map(lambda ports: service(*ports)),
    st.dictionaries(st.sampled_from("xyz"), st.none() | endpoints, max_size=3),
    st.booleans(),
)


@given(st.lists(steps, max_size=6))
def test_however_it_came_about_the_state_is_as_if_it_had_come_at_once(
    history: list[tuple[Service | str | None, dict[str, Endpoint | None], bool]],
) -> None:
    rounds, state = Rounds(), {}
    now: Service | None = None
    given_rows: dict[str, Endpoint | None] = {}
    for new, rows, whole in history:
        if whole:
            now, state, given_rows = None, {}, {}
        now = now if isinstance(new, str) else new
        given_rows |= rows
        state |= rounds.take(new, dict(rows), whole=whole).get(WEB, {})
        at_once = Rounds().take(now, dict(given_rows), whole=True).get(WEB, {})
        assert state == at_once
        assert all(port.protocol for row in state.values() if row for port in row.ports)


def test_nothing_is_kept_of_services_that_are_gone() -> None:
    """In a cluster whose services come and go, a client that runs for months would only grow."""
    rounds = Rounds()
    rounds.take(service(PortMapping(53, UDP, "dns")), {"a": DNS})
    rounds.take(None, {"a": None})
    assert rounds.ports._mappings == rounds.ports._open == {}
