"""What is stale, and what has to be asked for it: cases of section O of the requirement, and X7."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from kpng.backends.conntrack import Plan, Planner
from kpng.backends.conntrack.planner import MAX_QUERIES
from kpng.host.conntrack import Flow, Query, socket_address
from kpng.model import ChangeSet, Endpoint, IPSet, LocalService
from kpng.testing import change_set, endpoint, full_state, local_service, service

V4, V6 = socket.AF_INET, socket.AF_INET6
NODE = [socket.inet_aton("192.0.2.1"), socket.inet_aton("10.1.0.254"), socket.inet_pton(V6, "2001:db8::1")]
PODS = [endpoint(f"10.1.0.{n}", port="5353/UDP") for n in range(4)]
MakeFlow = Callable[..., Flow]


def dns(*endpoints: Endpoint, name: str = "dns", ip: str = "10.96.0.10", **fields: Any) -> LocalService:
    return local_service(service(f"demo/{name}", ip, **{"ports": "53:5353/UDP", **fields}), *endpoints)


def everywhere(*endpoints: Endpoint) -> LocalService:
    return dns(
        *endpoints,
        ports="53:5353/UDP@30053",
        external_ips=IPSet(("203.0.113.1",)),
        load_balancer_ips=IPSet(("203.0.113.2",)),
    )


def settled(*services: LocalService) -> Planner:
    """A planner that knows these services and has nothing to do."""
    planner = Planner()
    planner.note(full_state(*services))
    planner.done()
    assert planner.plan() is None
    return planner


def changed(before: list[LocalService], after: list[LocalService]) -> Plan | None:
    planner = settled(*before)
    planner.note(change_set(before, after))
    return planner.plan(NODE)


def needed(plan: Plan | None) -> Plan:
    assert plan is not None
    return plan


FRONTENDS = ["10.96.0.10:53", "203.0.113.1:53", "203.0.113.2:53", "192.0.2.1:30053", "10.1.0.254:30053"]
ANSWERS = [
    ("10.1.0.1:5353", False),  # serves
    ("10.1.0.2:5353", True),  # has just left
    ("10.1.0.9:5353", True),  # deleted long ago
    ("10.1.0.1:53", True),  # serves, but not on this port any more
    ("", True),  # not translated: sent before there were endpoints
]


@pytest.mark.parametrize(("answer", "stale"), ANSWERS)
@pytest.mark.parametrize("frontend", FRONTENDS)
def test_o3_o8_what_is_stale(flow: MakeFlow, frontend: str, answer: str, stale: bool) -> None:
    plan = needed(changed([everywhere(*PODS[1:3])], [everywhere(PODS[1])]))
    assert plan.is_stale(flow(frontend, answer)) is stale


@pytest.mark.parametrize("answer", [answer for answer, _ in ANSWERS])
@pytest.mark.parametrize(
    "destination",
    ["10.96.0.10:54", "10.96.0.11:53", "203.0.113.1:30053", "10.96.0.10:30053", "192.0.2.1:53", "10.1.0.1:5353"],
)
def test_o8_flows_to_elsewhere_are_nobodys(flow: MakeFlow, destination: str, answer: str) -> None:
    plan = needed(changed([everywhere(*PODS[1:3])], [everywhere(PODS[1])]))
    assert not plan.is_stale(flow(destination, answer))


def test_x7_the_node_port_of_another_machine(flow: MakeFlow) -> None:
    """A pod talks to a host outside, at a port that happens to be a node port here."""
    plan = needed(changed([everywhere(*PODS[1:3])], [everywhere(PODS[1])]))
    assert not plan.is_stale(flow("198.51.100.9:30053"))
    assert plan.is_stale(flow("192.0.2.1:30053"))


def test_x7_the_node_port_of_a_family_that_the_service_has_not(flow: MakeFlow) -> None:
    plan = needed(changed([everywhere(*PODS[1:3])], [everywhere(PODS[1])]))
    assert not plan.is_stale(flow("[2001:db8::1]:30053"))


def test_an_address_of_the_node_that_is_a_services_own(flow: MakeFlow) -> None:
    """The external IP comes before the node port of another service."""
    one = dns(PODS[1], name="one", ports="30053:5353/UDP", external_ips=IPSet(("192.0.2.1",)))
    two = dns(*PODS[2:4], name="two", ip="10.96.0.11", ports="53:5353/UDP@30053")
    plan = needed(changed([one, two], [one, dns(PODS[3], name="two", ip="10.96.0.11", ports="53:5353/UDP@30053")]))
    assert not plan.is_stale(flow("192.0.2.1:30053", "10.1.0.1:5353"))
    assert plan.is_stale(flow("192.0.2.1:30053", "10.1.0.2:5353"))
    assert not plan.is_stale(flow("10.1.0.254:30053", "10.1.0.3:5353"))


def by_endpoint(address: str, port: int = 5353) -> Query:
    return Query(V6 if ":" in address else V4, answered_by=socket_address(address, port))


def by_frontend(address: str, port: int = 53) -> Query:
    return Query(V4, address=socket.inet_aton(address), port=port)


UDP_AND_TCP = {"ports": "u=53:5353/UDP t=53:5353/TCP"}


def both(udp: int, tcp: int) -> LocalService:
    return dns(
        endpoint(f"10.1.0.{udp}", port="u=5353/UDP"), endpoint(f"10.1.0.{tcp}", port="t=5353/TCP"), **UDP_AND_TCP
    )


CHANGES: dict[str, tuple[list[LocalService], list[LocalService], set[Query] | None]] = {
    "endpoint gone": ([dns(*PODS[1:3])], [dns(PODS[1])], {by_endpoint("10.1.0.2")}),
    "endpoint gone, of many frontends": (
        [everywhere(*PODS[1:3])],
        [everywhere(PODS[1])],
        {by_endpoint("10.1.0.2")},
    ),
    "more endpoints gone than there are frontends": ([dns(*PODS)], [dns(PODS[1])], {by_frontend("10.96.0.10")}),
    "endpoint replaced": ([dns(PODS[1])], [dns(PODS[2])], {by_endpoint("10.1.0.1")}),
    "endpoint added": ([dns(PODS[1])], [dns(*PODS[1:3])], None),
    "none to some": ([dns()], [dns(PODS[1])], {by_frontend("10.96.0.10")}),
    "some to none": ([dns(PODS[1])], [dns()], {by_frontend("10.96.0.10")}),
    "service gone": ([dns(PODS[1])], [], {by_frontend("10.96.0.10")}),
    "service new": ([], [dns(PODS[1])], {by_frontend("10.96.0.10")}),
    "target port changed": (
        [dns(PODS[1])],
        [dns(endpoint("10.1.0.1", port="53/UDP"), ports="53:53/UDP")],
        {by_endpoint("10.1.0.1")},
    ),
    "address added": (
        [dns(PODS[1])],
        [dns(PODS[1], external_ips=IPSet(("203.0.113.1",)))],
        {by_frontend("203.0.113.1")},
    ),
    "port changed": (
        [dns(PODS[1])],
        [dns(PODS[1], ports="54:5353/UDP")],
        {by_frontend("10.96.0.10"), by_frontend("10.96.0.10", 54)},
    ),
    "node port added": ([dns(PODS[1])], [dns(PODS[1], ports="53:5353/UDP@30053")], {Query(V4, port=30053)}),
    "becomes headless": ([dns(PODS[1])], [dns(PODS[1], headless=True)], {by_frontend("10.96.0.10")}),
    "only labels": ([dns(PODS[1])], [dns(PODS[1], labels={"a": "b"})], None),
    "policy": ([dns(PODS[1])], [dns(PODS[1], internal_traffic_local=True, external_traffic_local=True)], None),
    "affinity": ([dns(PODS[1])], [dns(PODS[1], session_affinity_seconds=10)], None),
    "TCP endpoint gone": ([both(1, 2)], [both(1, 3)], None),
    "UDP endpoint gone beside TCP": ([both(1, 2)], [both(3, 2)], {by_endpoint("10.1.0.1")}),
    "TCP service": ([dns(PODS[1], ports="53:5353/TCP")], [], None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_o1_what_is_asked(name: str) -> None:
    """Work is proportional to the change. Service-only changes count (X7); what leaves no stale flow does not."""
    before, after, expected = CHANGES[name]
    plan = changed(before, after)
    assert (None if plan is None else set(plan.queries)) == expected


def test_the_first_change_set_looks_at_everything(flow: MakeFlow) -> None:
    """What went while kpng was not running is found; what serves goes on."""
    planner = Planner()
    planner.note(full_state(dns(PODS[1])))
    plan = needed(planner.plan())
    assert plan.queries == (by_frontend("10.96.0.10"),)
    assert plan.is_stale(flow("10.96.0.10:53", "10.1.0.2:5353"))
    assert not plan.is_stale(flow("10.96.0.10:53", "10.1.0.1:5353"))


def many(count: int, *endpoints: Endpoint) -> list[LocalService]:
    return [dns(*endpoints, name=f"dns-{n}", ip=f"10.96.1.{n}") for n in range(count)]


@pytest.mark.parametrize("count", [1, MAX_QUERIES, MAX_QUERIES + 1, 200])
def test_many_questions_become_one(flow: MakeFlow, count: int) -> None:
    planner = Planner()
    planner.note(full_state(*many(count, PODS[1])))
    plan = needed(planner.plan())
    if count <= MAX_QUERIES:
        assert set(plan.queries) == {by_frontend(f"10.96.1.{n}") for n in range(count)}
    else:
        assert plan.queries == (Query(V4),)
    for number in range(count):
        assert plan.is_stale(flow(f"10.96.1.{number}:53", "10.1.0.2:5353"))
        assert not plan.is_stale(flow(f"10.96.1.{number}:53", "10.1.0.1:5353"))


def test_one_question_for_each_family() -> None:
    dual = [
        local_service(service(f"demo/s{n}", f"10.96.1.{n}", f"fd00:96::{n}", ports="53:5353/UDP"), PODS[1])
        for n in range(MAX_QUERIES)
    ]
    planner = Planner()
    planner.note(full_state(*dual))
    assert needed(planner.plan()).queries == (Query(V4), Query(V6))


def test_a_full_change_set_later_takes_away_what_it_does_not_name(flow: MakeFlow) -> None:
    planner = settled(*many(2, PODS[1]))
    planner.note(full_state(many(2, PODS[1])[0]))
    plan = needed(planner.plan())
    assert plan.is_stale(flow("10.96.1.1:53", "10.1.0.1:5353"))
    assert not plan.is_stale(flow("10.96.1.0:53", "10.1.0.1:5353"))


def test_o6_a_service_that_is_gone_leaves_alone_what_was_never_its(flow: MakeFlow) -> None:
    """A process of the node may listen where a node port was; its flows are not translated."""
    plan = needed(changed([everywhere(PODS[1])], []))
    for frontend in FRONTENDS:
        assert plan.is_stale(flow(frontend, "10.1.0.1:5353"))
        assert not plan.is_stale(flow(frontend))


def test_some_to_none_removes_all(flow: MakeFlow) -> None:
    plan = needed(changed([everywhere(PODS[1])], [everywhere()]))
    for frontend in FRONTENDS:
        assert plan.is_stale(flow(frontend, "10.1.0.1:5353"))
        assert plan.is_stale(flow(frontend))


def test_what_was_not_done_stays_due(flow: MakeFlow) -> None:
    """A pass that failed is made up for, together with what changed since."""
    states = [dns(*PODS[1:4]), dns(*PODS[2:4]), dns(PODS[3])]
    planner = settled(states[0])
    planner.note(change_set([states[0]], [states[1]]))
    assert set(needed(planner.plan()).queries) == {by_endpoint("10.1.0.1")}
    planner.note(change_set([states[1]], [states[2]]))
    plan = needed(planner.plan())
    assert plan.is_stale(flow("10.96.0.10:53", "10.1.0.1:5353"))
    assert plan.is_stale(flow("10.96.0.10:53", "10.1.0.2:5353"))
    assert set(plan.queries) == {by_frontend("10.96.0.10")}
    planner.done()
    assert planner.plan() is None


@pytest.mark.parametrize("first", [[], [dns()]])
def test_a_look_at_everything_stays_one(flow: MakeFlow, first: list[LocalService]) -> None:
    """An endpoint that left meanwhile does not narrow it: other flows may be stale too."""
    planner = settled(*first)
    planner.note(change_set(first, [dns(*PODS[1:3])]))
    planner.note(change_set([dns(*PODS[1:3])], [dns(PODS[1])]))
    plan = needed(planner.plan())
    assert plan.queries == (by_frontend("10.96.0.10"),)
    assert plan.is_stale(flow("10.96.0.10:53"))


def test_an_endpoint_that_came_back_is_not_stale(flow: MakeFlow) -> None:
    planner = settled(dns(*PODS[1:3]))
    planner.note(change_set([dns(*PODS[1:3])], [dns(PODS[2])]))
    planner.note(change_set([dns(PODS[2])], [dns(*PODS[1:3])]))
    plan = planner.plan()
    assert plan is None or not plan.is_stale(flow("10.96.0.10:53", "10.1.0.1:5353"))


def test_two_services_with_one_address(flow: MakeFlow) -> None:
    """Which of them has it is the backend's decision: the endpoints of both count, until their service goes."""
    shared = IPSet(("203.0.113.1",))
    one, two = dns(PODS[1], external_ips=shared), dns(PODS[2], name="two", ip="10.96.0.11", external_ips=shared)
    planner = settled(one)
    planner.note(change_set([], [two]))
    plan = needed(planner.plan())
    assert plan.queries == (by_frontend("10.96.0.11"),), "more may serve at the shared address, nobody less"
    assert not plan.is_stale(flow("203.0.113.1:53", "10.1.0.1:5353"))
    planner.done()
    planner.note(change_set([one], []))
    plan = needed(planner.plan())
    assert set(plan.queries) == {by_frontend("10.96.0.10"), by_endpoint("10.1.0.1")}
    assert plan.is_stale(flow("203.0.113.1:53", "10.1.0.1:5353"))
    assert not plan.is_stale(flow("203.0.113.1:53", "10.1.0.2:5353"))


@pytest.mark.parametrize(
    ("services", "expected"),
    [([], False), ([dns(PODS[1])], False), ([everywhere()], True), ([dns(PODS[1]), everywhere()], True)],
)
def test_whether_the_nodes_addresses_are_needed(services: list[LocalService], expected: bool) -> None:
    planner = Planner()
    planner.note(full_state(*services))
    assert planner.needs_node_addresses is expected


def test_nothing_to_do() -> None:
    planner = Planner()
    planner.note(ChangeSet({}, full=True))
    assert planner.plan() is None


def test_whether_node_ports_are_taken_is_known_without_a_look_at_all_services() -> None:
    """It is asked before each pass."""
    plain = dns(PODS[0])
    first, second = (
        dns(PODS[0], name=name, ports="53:5353/UDP@30053", ip=ip)
        for name, ip in (("a", "10.96.0.11"), ("b", "10.96.0.12"))
    )
    planner = settled(plain)
    assert not planner.needs_node_addresses
    planner.note(change_set([plain], [plain, first, second]))
    assert planner.needs_node_addresses
    planner.done()
    planner.note(change_set([plain, first, second], [plain, second]))
    planner.done()
    assert planner.needs_node_addresses
    planner.note(change_set([plain, second], [plain]))
    assert planner.needs_node_addresses, "its flows are due"
    planner.done()
    assert not planner.needs_node_addresses
