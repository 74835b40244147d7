"""Judgement, and the report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from kpng.backends import backend_names
from kpng.conformance.attempts import DROP, REJECT, Seen
from kpng.conformance.flows import Expectation, load_scenarios
from kpng.conformance.report import as_json, table, total
from kpng.conformance.results import (
    NEVER,
    ByDesign,
    Exemption,
    Result,
    as_expected,
    count,
    expected_text,
    missing,
    seen_text,
)

Make = Callable[..., Any]
ONE, TWO = "10.1.0.1:8080", "10.1.0.2:8080"
BOTH = Expectation("dnat", (ONE, TWO), masquerade=False)
HAIRPIN = Expectation("dnat", (ONE, TWO), None, {ONE: True, TWO: False})


@pytest.mark.parametrize(
    ("expected", "seen", "passed"),
    [
        (BOTH, [Seen("dnat", ONE), Seen("dnat", TWO)], True),
        (BOTH, [Seen("dnat", ONE)], True),
        (BOTH, [], False),
        (BOTH, [Seen("dnat", ONE), DROP], False),
        (BOTH, [Seen("dnat", "10.1.0.3:8080")], False),
        (BOTH, [Seen("dnat", ONE, masquerade=True)], False),
        (BOTH, [Seen("dnat", ONE), Seen(NEVER, TWO)], False),
        (HAIRPIN, [Seen("dnat", ONE, masquerade=True), Seen("dnat", TWO)], True),
        (HAIRPIN, [Seen("dnat", ONE)], False),
        (HAIRPIN, [Seen("dnat", TWO, masquerade=True)], False),
        (Expectation("drop"), [DROP, DROP], True),
        (Expectation("drop"), [DROP, REJECT], False),
        (Expectation("reject"), [REJECT], True),
        (Expectation("reject"), [Seen("reset")], False),
        (Expectation("reject"), [Seen("reject with ICMP code 13 to 10.1.0.9")], False),
        (Expectation("none"), [Seen("none")], True),
        (Expectation("none"), [Seen("none", masquerade=True)], False),
        (Expectation("none"), [Seen("not applied: x")], False),
    ],
)
def test_judgement(expected: Expectation, seen: list[Seen], passed: bool) -> None:
    assert as_expected(expected, seen) is passed


def test_what_no_attempt_ended_at() -> None:
    assert missing(BOTH, [Seen("dnat", ONE)]) == [TWO]
    assert missing(BOTH, [Seen("dnat", TWO), Seen("dnat", ONE)]) == []
    assert missing(Expectation("drop"), [DROP]) == []


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (BOTH, f"dnat {ONE} | {TWO}"),
        (HAIRPIN, f"dnat {ONE} masqueraded | {TWO}"),
        (Expectation("reject"), "reject"),
    ],
)
def test_expectations_in_words(expected: Expectation, text: str) -> None:
    assert expected_text(expected) == text


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        ([DROP, DROP], "drop"),
        ([DROP, REJECT, DROP], "2x drop, 1x reject"),
        ([Seen("dnat", ONE)] * 3 + [Seen(NEVER, TWO)], f"3x dnat {ONE}, never {TWO}"),
    ],
)
def test_what_was_seen_is_counted(seen: list[Seen], text: str) -> None:
    assert seen_text(seen) == text


# -- by design ---------------------------------------------------------------------------------------

EXCEPTIONS = ByDesign([Exemption("a", "because", "x"), Exemption("b", "all of it")])


@pytest.mark.parametrize(
    ("scenario", "flow", "passed", "state", "reason"),
    [
        ("a", "x", False, "by_design", "because"),
        ("a", "x", True, "passed", ""),
        ("a", "y", False, "failed", ""),
        ("b", "anything", False, "by_design", "all of it"),
        ("c", "x", False, "failed", ""),
    ],
)
def test_what_differs_by_design(scenario: str, flow: str, passed: bool, state: str, reason: str) -> None:
    result = EXCEPTIONS.judge(scenario, flow, "drop", "reject", passed=passed)
    assert (result.state, result.reason) == (state, reason)


def test_a_backend_without_exceptions() -> None:
    assert ByDesign.of("no-such-backend").reason("a", "x") == ""


def test_the_packages_exceptions_name_flows_that_are_there() -> None:
    names = {(scenario.name, flow.name) for scenario in load_scenarios() for flow in scenario.flows}
    scenarios = {name for name, _ in names}
    for backend in backend_names():
        for scenario, flow in ByDesign.of(backend)._reasons:
            assert (scenario, flow) in names if flow else scenario in scenarios


# -- report ------------------------------------------------------------------------------------------

RESULTS = [
    Result("one", "pod -> web", "drop", "drop", "passed"),
    Result("one", "node -> web", "reject", "drop", "failed"),
    Result("two", "pod -> web", "none", "reject", "by_design", "a reason"),
]


def test_only_failures_are_shown_unless_asked() -> None:
    lines = table(RESULTS, verbose=False).splitlines()
    assert len(lines) == 2
    assert lines[0].split() == ["scenario", "flow", "expected", "seen"]
    assert re.split(r"  +", lines[1]) == ["one", "node -> web", "reject", "FAILED: drop"]


def test_everything_is_shown_when_asked() -> None:
    lines = table(RESULTS, verbose=True).splitlines()
    assert [re.split(r"  +", line)[3] for line in lines[1:]] == [
        "ok: drop",
        "FAILED: drop",
        "by design: reject (a reason)",
    ]
    assert (
        len({line.index(word) for line, word in zip(lines, ("expected", "drop", "reject", "none"), strict=True)})
        == 1
    )


def test_nothing_to_show() -> None:
    assert table(RESULTS[:1], verbose=False) == ""
    assert table([], verbose=True) == ""


def test_what_is_long_is_not_cut() -> None:
    long = Result("s" * 80, "f" * 90, "e" * 100, "x" * 200, "failed")
    line = table([long], verbose=False).splitlines()[1]
    assert line == f"{'s' * 80}  {'f' * 90}  {'e' * 100}  FAILED: {'x' * 200}"


def test_the_total() -> None:
    text = total("nft", RESULTS, 1.25)
    assert text == "nft: 3 flows of 2 scenarios: 1 passed, 1 failed, 1 by design (1.2 s)"
    cases = [Result("one", "", "a", "a", "passed")]
    assert total("topology", cases, 0) == "topology: 1 cases: 1 passed, 0 failed, 0 by design (0.0 s)"


def test_the_report_for_programs() -> None:
    assert json.loads(as_json(RESULTS)) == {
        "passed": 1,
        "failed": 1,
        "by_design": 1,
        "failures": [{"scenario": "one", "flow": "node -> web", "expected": "reject", "seen": "drop"}],
    }


def test_counts() -> None:
    assert [count(RESULTS, state) for state in ("passed", "failed", "by_design")] == [1, 1, 1]
