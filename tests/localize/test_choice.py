"""Endpoint choice by rule: the ids are those of the project's notes on kube-proxy's semantics (B1..B10)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.localize import choose
from kpng.model import EndpointInfo
from kpng.testing import endpoint_info

HERE, THERE, ZONE, OTHER_ZONE = "n1", "n2", "za", "zb"

READY: dict[str, bool] = {}
UNREADY = {"ready": False, "serving": False}
FAILING = {"ready": False, "serving": True}
TERMINATING = {"ready": False, "serving": True, "terminating": True}
GONE = {"ready": False, "serving": False, "terminating": True}
PUBLISHED = {"ready": True, "serving": False, "terminating": True}  # publishNotReadyAddresses

States = list[tuple[dict[str, bool], str]]

# rule, endpoints as (conditions, node), indexes chosen by the Cluster policy, by the Local policy, any usable
READINESS: list[tuple[str, States, list[int], list[int], bool]] = [
    ("B1-ready-is-used", [(READY, HERE), (READY, THERE)], [0, 1], [0], True),
    ("B1-ready-wins-over-terminating", [(READY, THERE), (TERMINATING, THERE)], [0], [], True),
    ("B1-published-although-terminating", [(PUBLISHED, HERE), (TERMINATING, HERE)], [0], [0], True),
    ("B2-all-terminating-if-none-ready", [(TERMINATING, HERE), (TERMINATING, THERE)], [0, 1], [0], True),
    ("B3-local-fallback-beside-ready-elsewhere", [(TERMINATING, HERE), (READY, THERE)], [1], [0], True),
    ("B3-local-ready-wins-over-local-terminating", [(TERMINATING, HERE), (READY, HERE)], [1], [1], True),
    ("B3-nothing-here", [(READY, THERE)], [0], [], True),
    ("B4-only-terminating-elsewhere-is-usable", [(TERMINATING, THERE)], [0], [], True),
    ("B4-none-at-all", [], [], [], False),
    ("B4-none-usable", [(UNREADY, HERE), (GONE, HERE), (FAILING, THERE)], [], [], False),
    ("B5-failing-readiness-is-never-used", [(FAILING, HERE), (TERMINATING, THERE)], [1], [], True),
    ("B5-terminating-and-not-serving-is-never-used", [(GONE, HERE), (TERMINATING, THERE)], [1], [], True),
]


@pytest.mark.parametrize(
    ("states", "cluster", "local", "anywhere"), [c[1:] for c in READINESS], ids=[c[0] for c in READINESS]
)
def test_readiness(states: States, cluster: list[int], local: list[int], anywhere: bool) -> None:
    endpoints = [
        endpoint_info(f"10.1.0.{number}", node=node, **conditions)
        for number, (conditions, node) in enumerate(states)
    ]
    choice = choose(endpoints, HERE, ZONE)
    assert [endpoints.index(e) for e in choice.cluster] == cluster
    assert [endpoints.index(e) for e in choice.local] == local
    assert choice.anywhere == anywhere


Hints = list[tuple[str, str]]

# rule, (node hints, zone hints) of each ready endpoint, node, zone, indexes chosen by the Cluster policy
TOPOLOGY: list[tuple[str, Hints, str, str, list[int]]] = [
    ("B6b-node", [("n1", "za"), ("n2", "za")], HERE, ZONE, [0]),
    ("B6b-node-of-several", [("n1 n3", ""), ("n2 n1", ""), ("n3", "")], HERE, ZONE, [0, 1]),
    ("B6b-node-wins-over-zone", [("n1", "zb"), ("n2", "za")], HERE, ZONE, [0]),
    ("B6b-this-node-named-by-none-then-zone", [("n2", "za"), ("n3", "zb")], HERE, ZONE, [0]),
    ("B6b-this-node-named-by-none-nor-zone", [("n2", ""), ("n3", "")], HERE, ZONE, [0, 1]),
    ("B6c-zone", [("", "za"), ("", "zb")], HERE, ZONE, [0]),
    ("B6c-zone-named-by-none", [("", "zb"), ("", "zc")], HERE, ZONE, [0, 1]),
    ("B6c-unknown-zone", [("", "za"), ("", "zb")], HERE, "", [0, 1]),
    ("B6c-unknown-node-and-zone", [("n1", "za"), ("n2", "zb")], "", "", [0, 1]),
    ("B6c-unknown-node-known-zone", [("n1", "za"), ("n2", "zb")], "", ZONE, [0]),
    ("B6d-no-hints", [("", ""), ("", "")], HERE, ZONE, [0, 1]),
    ("B7-one-without-zone-hints", [("", "za"), ("", "")], HERE, ZONE, [0, 1]),
    ("B7-one-without-node-hints", [("n1", "za"), ("", "zb")], HERE, ZONE, [0]),
    ("B7-several-zones", [("", "zb za"), ("", "zb")], HERE, ZONE, [0]),
]


@pytest.mark.parametrize(
    ("hints", "node", "zone", "cluster"), [c[1:] for c in TOPOLOGY], ids=[c[0] for c in TOPOLOGY]
)
def test_topology(hints: Hints, node: str, zone: str, cluster: list[int]) -> None:
    endpoints = [
        endpoint_info(f"10.1.0.{i}", node_hints=tuple(nodes.split()), zone_hints=tuple(zones.split()))
        for i, (nodes, zones) in enumerate(hints)
    ]
    assert [endpoints.index(e) for e in choose(endpoints, node, zone).cluster] == cluster


def hinted(number: int, zone: str, **fields: bool | str) -> EndpointInfo:
    return endpoint_info(f"10.1.0.{number}", zone_hints=(zone,) if zone else (), **fields)


def test_b2_topology_does_not_apply_to_terminating_endpoints() -> None:
    endpoints = [hinted(0, ZONE, **TERMINATING), hinted(1, OTHER_ZONE, **TERMINATING)]
    assert choose(endpoints, HERE, ZONE).cluster == tuple(endpoints)


def test_b3_topology_does_not_apply_to_the_local_policy() -> None:
    endpoints = [hinted(0, OTHER_ZONE, node=HERE), hinted(1, ZONE, node=THERE)]
    choice = choose(endpoints, HERE, ZONE)
    assert choice.local == (endpoints[0],)
    assert choice.cluster == (endpoints[1],)


def test_b7_an_unready_endpoint_without_hints_does_not_matter() -> None:
    endpoints = [hinted(0, ZONE), hinted(1, OTHER_ZONE), hinted(2, "", **FAILING), hinted(3, "", **TERMINATING)]
    assert choose(endpoints, HERE, ZONE).cluster == (endpoints[0],)


def test_a21_an_endpoint_without_a_node_is_never_local() -> None:
    endpoints = [endpoint_info("10.1.0.1")]
    assert choose(endpoints, "", ZONE).local == ()
    assert choose(endpoints, HERE, ZONE).local == ()


conditions = st.sampled_from([READY, UNREADY, FAILING, TERMINATING, GONE, PUBLISHED])
names = st.sampled_from(["", HERE, THERE])
zones = st.sampled_from(["", ZONE, OTHER_ZONE])
hint_sets = st.sets(st.sampled_from([HERE, THERE, ZONE, OTHER_ZONE]), max_size=2)


@st.composite
def candidate_lists(draw: st.DrawFn) -> list[EndpointInfo]:
    return [
        endpoint_info(
            f"10.1.0.{number}",
            node=draw(names),
            node_hints=tuple(sorted(draw(hint_sets))),
            zone_hints=tuple(sorted(draw(hint_sets))),
            **draw(conditions),
        )
        for number in range(draw(st.integers(0, 6)))
    ]


@given(candidate_lists(), names, zones)
def test_whatever_the_hints_say_traffic_has_somewhere_to_go(
    candidates: list[EndpointInfo], node: str, zone: str
) -> None:
    choice = choose(candidates, node, zone)
    assert choice.anywhere == bool(choice.cluster)
    assert set(choice.cluster) | set(choice.local) <= set(candidates)
    assert all(e.ready or (e.serving and e.terminating) for e in choice.cluster + choice.local)
    assert all(e.node == node for e in choice.local)


@given(candidate_lists(), names, zones, st.randoms())
def test_the_order_of_candidates_does_not_matter(
    candidates: list[EndpointInfo], node: str, zone: str, random: object
) -> None:
    shuffled = list(candidates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = choose(candidates, node, zone), choose(shuffled, node, zone)
    assert set(one.cluster) == set(other.cluster)
    assert set(one.local) == set(other.local)
