"""M3 to M6, K6: whether the proxy keeps up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.health import HealthState
from kpng.model import FAMILIES, Family, IPSet, LocalNode

V4, V6 = FAMILIES
START = 1_000_000.0


class Hands:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.state = HealthState(60.0, wall=lambda: START + self.elapsed, steady=lambda: 5.0 + self.elapsed)

    def health(self) -> tuple[bool, bool]:
        families = self.state.report().families
        return families[V4].healthy, families[V6].healthy


def test_m6_nothing_done_yet_is_healthy_however_long() -> None:
    hands = Hands()
    hands.elapsed = 1e6
    report = hands.state.report()
    assert report.healthy
    assert report.families[V4].last_updated == START


STEPS: dict[str, list[tuple[float, str, tuple[bool, bool]]]] = {
    "queued and done": [(0, "q46", (True, True)), (59, "s46", (True, True)), (500, "", (True, True))],
    "just in time": [(0, "q46", (True, True)), (59.999, "", (True, True))],
    "at the timeout": [(0, "q46", (True, True)), (60, "", (False, False))],
    "late but done": [(0, "q46", (True, True)), (100, "", (False, False)), (101, "s46", (True, True))],
    "the oldest counts": [(0, "q46", (True, True)), (50, "q46", (True, True)), (60, "", (False, False))],
    "a new one starts anew": [(0, "q46", (True, True)), (50, "s46", (True, True)), (51, "q46", (True, True)),
                              (110, "", (True, True)), (111, "", (False, False))],
    "families apart": [(0, "q46", (True, True)), (10, "s4", (True, True)), (60, "", (True, False))],
    "one family only": [(0, "q6", (True, True)), (60, "s4", (True, False)), (61, "s6", (True, True))],
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_m4_a_change_that_waits_too_long_is_unhealthy(name: str) -> None:
    hands = Hands()
    for moment, what, healthy in STEPS[name]:
        hands.elapsed = moment
        families = [Family(int(digit)) for digit in what[1:]]
        if what:
            (hands.state.queued if what[0] == "q" else hands.state.synced)(families)
        assert hands.health() == healthy, f"at {moment}"
        assert hands.state.healthy is all(healthy)
        assert hands.state.report().healthy is all(healthy)


def test_m5_last_updated() -> None:
    hands = Hands()
    hands.elapsed = 10
    hands.state.synced([V4])
    hands.elapsed = 20
    hands.state.synced([V6])
    hands.state.queued()
    hands.elapsed = 50
    assert hands.state.report().last_updated == START + 50, "now, where all is well"
    hands.elapsed = 80
    report = hands.state.report()
    assert report.last_updated == START + 20, "the newest success, where it is not"
    assert report.families[V4].last_updated == START + 10


def test_a_clock_that_is_set_does_not_make_it_unhealthy() -> None:
    wall = START
    state = HealthState(60.0, wall=lambda: wall, steady=lambda: 5.0)
    state.queued()
    wall += 1e6
    assert state.healthy


NODES = {
    "eligible": ([LocalNode(name="n", addresses=IPSet.of(["192.0.2.1"]), eligible=True)], True),
    "unknown": ([], False),
    "not found": ([LocalNode(name="n")], False),
    "tainted": ([LocalNode(name="n", addresses=IPSet.of(["192.0.2.1"]), eligible=False)], False),
    "untainted": (
        [
            LocalNode(name="n", addresses=IPSet.of(["192.0.2.1"]), eligible=False),
            LocalNode(name="n", addresses=IPSet.of(["192.0.2.1"]), eligible=True),
        ],
        True,
    ),
    "gone": ([LocalNode(name="n", addresses=IPSet.of(["192.0.2.1"]), eligible=True), LocalNode(name="n")], True),
    "without addresses": ([LocalNode(name="n", eligible=True)], True),
}


@pytest.mark.parametrize("name", NODES)
def test_k6_whether_load_balancers_may_use_the_node(name: str) -> None:
    nodes, eligible = NODES[name]
    state = HealthState()
    for node in nodes:
        state.node(node)
    assert state.report().node_eligible is eligible
    assert state.report().healthy, "the proxy's own health is another matter (M3)"


@given(st.lists(st.tuples(st.sampled_from("qs"), st.floats(0, 100))))
def test_healthy_is_what_waits_less_than_the_timeout(steps: list[tuple[str, float]]) -> None:
    hands = Hands()
    oldest: float | None = None
    for what, seconds in steps:
        hands.elapsed += seconds
        if what == "q":
            hands.state.queued()
            oldest = hands.elapsed if oldest is None else oldest
        else:
            hands.state.synced()
            oldest = None
        assert hands.state.healthy is (oldest is None or (5.0 + hands.elapsed) - (5.0 + oldest) < 60)
