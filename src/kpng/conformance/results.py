"""What came of a run: per flow or case a result, and their sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from .attempts import Seen
from .files import load
from .flows import Expectation

NEVER = "never"
"""The verdict of an endpoint that should have been hit some time."""

State = Literal["passed", "failed", "by_design"]


class Result(Struct, frozen=True):
    """One flow (or case of endpoint choice): what was expected, what was seen. ``reason``: why it differs by
    design. A case has no ``flow``."""

    scenario: str
    flow: str
    expected: str
    seen: str
    state: State
    reason: str = ""


class Exemption(Struct, frozen=True):
    """A flow that a backend answers otherwise on purpose; no ``flow``: all of the scenario's."""

    scenario: str
    reason: str
    flow: str = ""


class ByDesign:
    """Per backend the flows that it answers otherwise on purpose (``data/by_design.json``)."""

    def __init__(self, exceptions: Iterable[Exemption]) -> None:
        self._reasons = {(each.scenario, each.flow): each.reason for each in exceptions}

    @classmethod
    def of(cls, backend: str) -> ByDesign:
        return cls(load(None, "by_design.json", dict[str, list[Exemption]]).get(backend, ()))

    def reason(self, scenario: str, flow: str) -> str:
        """Why; "" where it should be as everywhere."""
        return self._reasons.get((scenario, flow)) or self._reasons.get((scenario, ""), "")

    def judge(self, scenario: str, flow: str, expected: str, seen: str, *, passed: bool) -> Result:
        reason = "" if passed else self.reason(scenario, flow)
        state: State = "passed" if passed else "by_design" if reason else "failed"
        return Result(scenario, flow, expected, seen, state, reason)


def as_expected(expected: Expectation, seen: Sequence[Seen]) -> bool:
    """Whether every attempt ended as it may."""
    return bool(seen) and all(_allowed(expected, each) for each in seen)


def _allowed(expected: Expectation, seen: Seen) -> bool:
    if seen.verdict != expected.verdict:
        return False
    if seen.verdict == "dnat":
        return seen.endpoint in expected.dnat_to and seen.masquerade == expected.masquerades(seen.endpoint)
    return not seen.masquerade


def missing(expected: Expectation, seen: Sequence[Seen]) -> list[str]:
    """Endpoints that no attempt ended at."""
    hit = {each.endpoint for each in seen}
    return [endpoint for endpoint in expected.dnat_to if endpoint not in hit]


def expected_text(expected: Expectation) -> str:
    """For example ``dnat 10.1.0.1:80 masqueraded | 10.1.0.2:80``."""
    if expected.verdict != "dnat":
        return expected.verdict
    texts = [f"{each}{' masqueraded' if expected.masquerades(each) else ''}" for each in expected.dnat_to]
    return f"dnat {' | '.join(texts)}"


def seen_text(seen: Sequence[Seen]) -> str:
    """The different outcomes; how often each, where there are several."""
    counts = Counter(seen)
    if len(counts) == 1:
        return str(seen[0])
    return ", ".join(
        str(each) if each.verdict == NEVER else f"{count}x {each}" for each, count in sorted(counts.items())
    )


def count(results: Iterable[Result], state: State) -> int:
    return sum(result.state == state for result in results)
