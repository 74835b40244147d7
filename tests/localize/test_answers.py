"""Global to local for one service: scopes, ports, families, and which nodes share an answer."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from kpng.localize import localize
from kpng.model import (
    Endpoint,
    EndpointInfo,
    EndpointPort,
    IPSet,
    LocalService,
    Protocol,
    Scopes,
    Service,
)
from kpng.store import ServiceRecord
from kpng.testing import endpoint_info, service

WEB = service("demo/web", "10.96.0.10")
TERMINATING = {"ready": False, "serving": True, "terminating": True}
FAILING = {"ready": False, "serving": True}


def record(of: Service | None, *endpoints: EndpointInfo, **sources: list[EndpointInfo]) -> ServiceRecord:
    of_sources = {name: tuple(infos) for name, infos in sources.items()}
    return ServiceRecord(WEB.key, of, of_sources | ({"slice": endpoints} if endpoints else {}))


def answer(held: ServiceRecord, node: str = "n1", zone: str = "") -> LocalService:
    local = localize(held, node, zone)
    assert local is not None
    return local


def used(local: LocalService, scope: str) -> list[str]:
    return sorted(a for e in local.endpoints.values() if getattr(e.scopes, scope) for a in e.addresses.all())


def test_endpoints_without_a_service_are_nothing_to_do() -> None:
    assert localize(record(None, endpoint_info("10.1.0.1")), "n1", "") is None


def test_a_service_without_endpoints_is_still_there_to_be_rejected() -> None:
    local = answer(record(WEB))
    assert dict(local.endpoints) == {}
    assert local.service.ports[0].available == 0


def test_an_endpoint_arrives_with_all_a_backend_needs() -> None:
    local = answer(record(WEB, endpoint_info("10.1.0.1", pod_name="web-1", hostname="one", node="n1")))
    assert local.endpoints == {
        "web-1": Endpoint(
            addresses=endpoint_info("10.1.0.1").addresses,
            ports=(EndpointPort("", 8080),),
            scopes=Scopes(True, True),
            local=True,
            hostname="one",
        )
    }


# -- E12: which endpoints (HERE is on this node, THERE on another) ---------------------------------------

HERE, THERE = endpoint_info("10.1.0.1", node="n1"), endpoint_info("10.1.0.2", node="n2")
BOTH, ONE, OTHER = ["10.1.0.1", "10.1.0.2"], ["10.1.0.1"], ["10.1.0.2"]

POLICIES: list[tuple[str, dict[str, bool], list[EndpointInfo], list[str], list[str], int]] = [
    ("E12-cluster-cluster", {}, [HERE, THERE], BOTH, BOTH, 1),
    ("E12-internal-local", {"internal_traffic_local": True}, [HERE, THERE], ONE, BOTH, 1),
    ("E12-external-local", {"external_traffic_local": True}, [HERE, THERE], BOTH, ONE, 1),
    ("E12-internal-local-none-here-drops", {"internal_traffic_local": True}, [THERE], [], OTHER, 1),
    ("E12-external-local-none-here-drops", {"external_traffic_local": True}, [THERE], OTHER, [], 1),
    (
        "E12-both-local-none-here-drops",
        {"internal_traffic_local": True, "external_traffic_local": True},
        [THERE],
        [],
        [],
        1,
    ),
    ("E12-nobody-anywhere-rejects", {"internal_traffic_local": True}, [], [], [], 0),
    (
        "E12-nobody-usable-rejects",
        {"external_traffic_local": True},
        [replace(HERE, ready=False, serving=False)],
        [],
        [],
        0,
    ),
    (
        "B3-local-terminating-beside-ready-elsewhere",
        {"external_traffic_local": True},
        [replace(HERE, **TERMINATING), THERE],
        OTHER,
        ONE,
        1,
    ),
]


@pytest.mark.parametrize(
    ("policies", "endpoints", "internal", "external", "available"),
    [case[1:] for case in POLICIES],
    ids=[case[0] for case in POLICIES],
)
def test_traffic_policies(
    policies: dict[str, bool],
    endpoints: list[EndpointInfo],
    internal: list[str],
    external: list[str],
    available: int,
) -> None:
    local = answer(record(replace(WEB, **policies), *endpoints))
    assert used(local, "internal") == internal
    assert used(local, "external") == external
    assert local.service.ports[0].available == available


def test_b9_internal_traffic_follows_hints_and_external_local_traffic_does_not() -> None:
    hinted = [replace(HERE, zone_hints=("zb",)), replace(THERE, zone_hints=("za",))]
    local = answer(record(replace(WEB, external_traffic_local=True), *hinted), "n1", "za")
    assert used(local, "internal") == OTHER
    assert used(local, "external") == ONE


OUTSIDE = IPSet(("203.0.113.7",))
LOCAL = replace(WEB, external_traffic_local=True)
REACHED = replace(LOCAL, external_ips=OUTSIDE)
SHORT: list[tuple[str, Service, list[EndpointInfo], list[str]]] = [
    ("f1 external IP", REACHED, [HERE, THERE], BOTH),
    (
        "f1 load-balancer IP",
        replace(WEB, load_balancer_ips=IPSet(("203.0.113.7",)), external_traffic_local=True),
        [HERE, THERE],
        BOTH,
    ),
    (
        "f1 node port",
        service("demo/web", "10.96.0.10", ports="80:8080/TCP@30080", external_traffic_local=True),
        [HERE, THERE],
        BOTH,
    ),
    ("f3 none here", REACHED, [THERE], OTHER),
    ("f5 policy Cluster", replace(REACHED, external_traffic_local=False), [HERE, THERE], []),
    ("a15 nothing from outside", LOCAL, [HERE, THERE], []),
    ("both policies Local", replace(REACHED, internal_traffic_local=True), [HERE, THERE], BOTH),
    ("the fallback too", REACHED, [replace(THERE, **TERMINATING)], OTHER),
    ("nobody serves", REACHED, [replace(THERE, **FAILING)], []),
]


@pytest.mark.parametrize(
    ("of", "endpoints", "wanted"), [case[1:] for case in SHORT], ids=[case[0] for case in SHORT]
)
def test_short_circuit(of: Service, endpoints: list[EndpointInfo], wanted: list[str]) -> None:
    """Traffic from within the cluster to an external address of policy Local uses what the Cluster policy would."""
    assert used(answer(record(of, *endpoints)), "short_circuit") == wanted


LINGERING: list[tuple[str, str, EndpointInfo, list[Scopes]]] = [
    ("UDP, terminating and serving", "53/UDP", replace(THERE, **TERMINATING), [Scopes(False, False)]),
    ("TCP has an end of its own", "53/TCP", replace(THERE, **TERMINATING), []),
    ("no longer serving", "53/UDP", replace(THERE, ready=False, serving=False, terminating=True), []),
    ("failing, not terminating", "53/UDP", replace(THERE, **FAILING), []),
]


@pytest.mark.parametrize(
    ("port", "other", "scopes"), [case[1:] for case in LINGERING], ids=[case[0] for case in LINGERING]
)
def test_o5_an_endpoint_that_only_finishes_its_flows(port: str, other: EndpointInfo, scopes: list[Scopes]) -> None:
    of = service("demo/dns", "10.96.0.10", ports=port)
    ready, other = (
        replace(info, ports=tuple(EndpointPort(p.name, p.port, p.protocol) for p in of.ports))
        for info in (HERE, other)
    )
    local = answer(record(of, ready, other))
    found = [e for e in local.endpoints.values() if e.addresses == other.addresses]
    assert [e.scopes for e in found] == scopes
    assert all(e.terminating for e in found)


# -- families ------------------------------------------------------------------------------------------------


def test_both_parts_of_a_dual_stack_pod_stay() -> None:
    local = answer(
        record(
            WEB,
            v4=[endpoint_info("10.1.0.1", pod_name="web-1")],
            v6=[endpoint_info("fd00::1", pod_name="web-1")],
        )
    )
    assert {key: e.addresses.all() for key, e in local.endpoints.items()} == {
        "web-1": ("10.1.0.1",),
        "web-1:ipv6": ("fd00::1",),
    }
    assert local.service.ports[0].available == 3


def test_families_are_chosen_apart() -> None:
    """Only terminating endpoints in IPv6 are its fallback, whatever is ready in IPv4."""
    local = answer(record(WEB, endpoint_info("10.1.0.1"), endpoint_info("fd00::1", **TERMINATING)))
    assert used(local, "internal") == ["10.1.0.1", "fd00::1"]


def test_availability_is_told_by_family() -> None:
    local = answer(record(WEB, endpoint_info("10.1.0.1", **FAILING), endpoint_info("fd00::1")))
    assert local.service.ports[0].available == 2


def test_an_endpoint_of_both_families_is_one_if_both_are_used_alike() -> None:
    local = answer(record(WEB, endpoint_info("10.1.0.1", "fd00::1", pod_name="web-1")))
    assert list(local.endpoints) == ["web-1"]
    assert used(local, "internal") == ["10.1.0.1", "fd00::1"]


def test_an_endpoint_of_both_families_is_used_only_in_the_family_it_was_chosen_for() -> None:
    both = endpoint_info("10.1.0.1", "fd00::1", pod_name="web-1", **TERMINATING)
    local = answer(record(WEB, both, endpoint_info("10.1.0.2", pod_name="web-2")))
    assert {key: e.addresses.all() for key, e in local.endpoints.items()} == {
        "web-1": ("fd00::1",),
        "web-2": ("10.1.0.2",),
    }


def test_an_endpoint_of_both_families_is_two_if_they_are_used_differently() -> None:
    both = endpoint_info("10.1.0.1", "fd00::1", pod_name="web-1", node="n1", **TERMINATING)
    of = replace(WEB, external_traffic_local=True)
    local = answer(record(of, both, endpoint_info("10.1.0.2", node="n2")))
    assert used(local, "internal") == ["10.1.0.2", "fd00::1"]
    assert used(local, "external") == ["10.1.0.1", "fd00::1"]


# -- ports ---------------------------------------------------------------------------------------------------

TWO_PORTS = service("demo/web", "10.96.0.10", ports="http=80 metrics=9090")


def ports_of(local: LocalService) -> dict[str, dict[str, int]]:
    return {key: {p.name: p.port for p in e.ports} for key, e in local.endpoints.items()}


def test_a20_a_port_only_in_one_slice_is_only_on_its_endpoints() -> None:
    local = answer(
        record(
            TWO_PORTS,
            a=[endpoint_info("10.1.0.1", port={"http": 8080}, pod_name="a")],
            b=[endpoint_info("10.1.0.2", port={"http": 8080, "metrics": 9090}, pod_name="b")],
        )
    )
    assert ports_of(local) == {"a": {"http": 8080}, "b": {"http": 8080, "metrics": 9090}}


def test_a20_endpoints_may_differ_in_their_numbers() -> None:
    local = answer(
        record(
            WEB,
            endpoint_info("10.1.0.1", port=8080, pod_name="a"),
            endpoint_info("10.1.0.2", port=9999, pod_name="b"),
        )
    )
    assert ports_of(local) == {"a": {"": 8080}, "b": {"": 9999}}


def test_a_port_that_only_unready_endpoints_have_is_unavailable() -> None:
    local = answer(
        record(
            TWO_PORTS,
            a=[endpoint_info("10.1.0.1", port={"http": 8080})],
            b=[endpoint_info("10.1.0.2", port={"metrics": 9090}, **FAILING)],
        )
    )
    assert [p.available for p in local.service.ports] == [1, 0]
    assert used(local, "internal") == ["10.1.0.1"]


def test_readiness_is_decided_port_by_port() -> None:
    """Only terminating endpoints carry "metrics": they are its fallback, but not that of "http"."""
    local = answer(
        record(
            TWO_PORTS,
            a=[endpoint_info("10.1.0.1", port={"http": 8080}, pod_name="a")],
            b=[endpoint_info("10.1.0.2", port={"http": 8080, "metrics": 9090}, pod_name="b", **TERMINATING)],
        )
    )
    assert ports_of(local) == {"a": {"http": 8080}, "b": {"metrics": 9090}}


def test_one_pod_ready_in_one_slice_and_not_in_another() -> None:
    local = answer(
        record(
            TWO_PORTS,
            a=[endpoint_info("10.1.0.1", port={"http": 8080}, pod_name="pod")],
            b=[endpoint_info("10.1.0.1", port={"metrics": 9090}, pod_name="pod", **FAILING)],
        )
    )
    assert ports_of(local) == {"pod": {"http": 8080}}
    assert [p.available for p in local.service.ports] == [1, 0]


def test_an_endpoint_whose_ports_differ_in_scope_has_an_entry_for_each() -> None:
    of = replace(TWO_PORTS, external_traffic_local=True)
    both = endpoint_info("10.1.0.1", port={"http": 8080, "metrics": 9090}, pod_name="a", node="n1", **TERMINATING)
    local = answer(record(of, both, endpoint_info("10.1.0.2", port={"http": 8080}, pod_name="b", node="n2")))
    found = [(e.addresses.v4[0], p.name, e.scopes) for e in local.endpoints.values() for p in e.ports]
    assert sorted(found, key=str) == [
        ("10.1.0.1", "http", Scopes(False, True)),
        ("10.1.0.1", "metrics", Scopes(True, True)),
        ("10.1.0.2", "http", Scopes(True, False)),
    ]


def test_the_second_entry_of_an_endpoint_never_takes_the_key_of_another() -> None:
    """A port may be called "ipv6", as the key of a pod's other family ends."""
    of = replace(service("demo/web", ports="http=80 ipv6=81"), external_traffic_local=True)
    local = answer(
        record(
            of,
            a=[endpoint_info("10.1.0.1", port="http=80 ipv6=81", pod_name="a", node="n1", **TERMINATING)],
            b=[endpoint_info("fd00::1", port="http=80", pod_name="a", node="n1")],
            c=[endpoint_info("10.1.0.2", port="http=80", pod_name="c", node="n2")],
        )
    )
    assert {"10.1.0.1", "10.1.0.2", "fd00::1"} == {a for e in local.endpoints.values() for a in e.addresses.all()}
    assert len(local.endpoints) == 4


def test_same_number_in_tcp_and_udp_are_two_ports() -> None:
    dns = service("demo/web", ports="dns=53/UDP dns=53/TCP")
    local = answer(record(dns, endpoint_info("10.1.0.1", port="dns=5353/UDP dns=53/TCP")))
    (only,) = local.endpoints.values()
    assert [only.port_for(p) for p in local.service.ports] == [5353, 53]
    assert [p.protocol for p in only.ports] == [Protocol.UDP, Protocol.TCP]


def test_endpoints_without_ports_get_the_services_own() -> None:
    local = answer(record(service("demo/web", ports="http=80:8080"), endpoint_info("10.1.0.1", port=0)))
    assert ports_of(local).popitem()[1] == {"http": 8080}


# -- A22: the same endpoint in several slices ----------------------------------------------------------------

DUPLICATES: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    ("A22-both-ready-is-one", {}, {}, ["10.1.0.1"]),
    ("A22-terminating-first-gives-way", TERMINATING, {}, ["10.1.0.1"]),
    ("A22-terminating-second-is-ignored", {}, TERMINATING, ["10.1.0.1"]),
    ("A22-first-of-two-not-terminating-counts", FAILING, {}, []),
]


@pytest.mark.parametrize(
    ("first", "second", "expected"), [c[1:] for c in DUPLICATES], ids=[c[0] for c in DUPLICATES]
)
def test_duplicates(first: dict[str, Any], second: dict[str, Any], expected: list[str]) -> None:
    local = answer(
        record(
            WEB,
            a=[endpoint_info("10.1.0.1", pod_name="a", **first)],
            b=[endpoint_info("10.1.0.1", pod_name="a", **second)],
        )
    )
    assert used(local, "internal") == expected


def test_a22_the_very_same_object_in_two_slices_is_one() -> None:
    info = endpoint_info("10.1.0.1", pod_name="a")
    assert list(answer(record(WEB, a=[info], b=[info])).endpoints) == ["a"]


def test_a22_another_port_of_the_same_address_is_another_endpoint() -> None:
    local = answer(record(WEB, a=[endpoint_info("10.1.0.1", port=80)], b=[endpoint_info("10.1.0.1", port=81)]))
    assert sorted(p.port for e in local.endpoints.values() for p in e.ports) == [80, 81]


# -- which nodes share an answer -------------------------------------------------------------------------------


def test_nodes_that_host_nothing_and_are_named_by_nobody_share_one_answer() -> None:
    held = record(WEB, HERE)
    assert answer(held, "n7", "za") is answer(held, "n8", "zb") is answer(held, "", "")


def test_a_node_that_hosts_an_endpoint_has_its_own() -> None:
    held = record(WEB, HERE)
    mine, theirs = answer(held, "n1"), answer(held, "n2")
    assert mine is not theirs
    assert theirs is answer(held, "n3", "zx")
    assert [e.local for e in mine.endpoints.values()] == [True]
    assert [e.local for e in theirs.endpoints.values()] == [False]
    assert mine.service is theirs.service


def test_nodes_of_one_zone_share_an_answer_where_hints_name_zones() -> None:
    held = record(
        WEB,
        endpoint_info("10.1.0.1", zone_hints=("za",)),
        endpoint_info("10.1.0.2", zone_hints=("zb",)),
    )
    in_a, in_b = answer(held, "n1", "za"), answer(held, "n2", "zb")
    assert in_a is answer(held, "n3", "za")
    assert used(in_a, "internal") == ["10.1.0.1"]
    assert used(in_b, "internal") == ["10.1.0.2"]
    for node, zone in (("n4", ""), ("n5", "zc"), ("", "")):
        assert used(answer(held, node, zone), "internal") == ["10.1.0.1", "10.1.0.2"]
    assert answer(held, "n4", "") is answer(held, "n5", "zc")


def test_a_node_named_by_a_hint_has_its_own_answer_also_if_it_hosts_nothing() -> None:
    held = record(
        WEB,
        endpoint_info("10.1.0.1", node_hints=("n1",)),
        endpoint_info("10.1.0.2", node_hints=("n2",)),
    )
    assert used(answer(held, "n1"), "internal") == ["10.1.0.1"]
    assert used(answer(held, "n9"), "internal") == ["10.1.0.1", "10.1.0.2"]


def test_a_new_record_of_the_same_service_starts_anew() -> None:
    assert answer(record(WEB, HERE)) is not answer(record(WEB, HERE))
