"""The lab's report: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .outcome import Outcome
from .probes import Tally

WIDTH = 110
_HEAD = ("scenario", "from -> to", "answered", "endpoints", "p50 ms", "p99 ms", "result")
_WIDTHS = (36, 32, 8, 10, 6, 6)


def table(outcomes: Sequence[Outcome], seconds: float) -> str:
    """The report as text, no line longer than `WIDTH`."""
    lines = [_line(_HEAD).rstrip(), "-" * WIDTH]
    for outcome in outcomes:
        lines += _rows(outcome)
    return "\n".join([*lines, "-" * WIDTH, summary(outcomes, seconds)])


def summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    """For example ``27 of 27 scenarios as expected, 1432 requests, 12.3 s``."""
    passed = sum(outcome.passed for outcome in outcomes)
    sent = sum(outcome.tally.sent for outcome in outcomes)
    return f"{passed} of {len(outcomes)} scenarios as expected, {sent} requests, {seconds:.1f} s"


def as_json(outcomes: Sequence[Outcome], seconds: float) -> str:
    """The report as one JSON object; every outcome with all its counts."""
    return json.dumps(
        {
            "passed": all(outcome.passed for outcome in outcomes),
            "seconds": round(seconds, 3),
            "scenarios": [_as_object(outcome) for outcome in outcomes],
        },
        indent=2,
    )


def endpoints(names: Sequence[str]) -> str:
    """Pods' names with what they share written once: ``web-1,2,3``."""
    by_app: dict[str, list[str]] = {}
    for name in sorted(names):
        app, _, number = name.rpartition("-")
        by_app.setdefault(app, []).append(number)
    return " ".join(f"{app}-{','.join(numbers)}" if app else ",".join(numbers) for app, numbers in by_app.items())


def _rows(outcome: Outcome) -> list[str]:
    tally = outcome.tally
    cells = (
        outcome.title,
        f"{outcome.origin} -> {outcome.target}",
        f"{tally.answered}/{tally.sent}",
        endpoints(list(tally.endpoints)) or "/".join(tally.errors),
        _milliseconds(tally, 0.5),
        _milliseconds(tally, 0.99),
        "ok" if outcome.passed else "FAILED",
    )
    rows = [_line(cells)]
    rows += [f"  {outcome.note}"] if outcome.note else []
    rows += [f"  !! {problem}"[:WIDTH] for problem in outcome.problems]
    return rows


def _line(cells: Sequence[str]) -> str:
    fixed = [f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=False)]
    for index in (2, 4, 5):
        fixed[index] = f"{cells[index]:>{_WIDTHS[index]}}"
    return " ".join([*fixed, cells[-1]])


def _milliseconds(tally: Tally, quantile: float) -> str:
    value = tally.milliseconds(quantile)
    return "" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _as_object(outcome: Outcome) -> dict[str, Any]:
    tally = outcome.tally
    return {
        "scenario": outcome.title,
        "from": outcome.origin,
        "to": outcome.target,
        "sent": tally.sent,
        "answered": tally.answered,
        "errors": dict(tally.errors),
        "endpoints": dict(sorted(tally.endpoints.items())),
        "clients": sorted(tally.clients),
        "p50_ms": _rounded(tally, 0.5),
        "p99_ms": _rounded(tally, 0.99),
        "note": outcome.note,
        "passed": outcome.passed,
        "problems": list(outcome.problems),
    }


def _rounded(tally: Tally, quantile: float) -> float | None:
    value = tally.milliseconds(quantile)
    return None if value is None else round(value, 3)
