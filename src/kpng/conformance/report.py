"""The report: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .results import Result, count

_HEAD = ("scenario", "flow", "expected", "seen")
_WIDEST = (60, 50, 60)


def table(results: Sequence[Result], *, verbose: bool) -> str:
    """What failed, or everything; "" if there is nothing to show. What is too long is not cut."""
    rows = [_cells(result) for result in results if verbose or result.state == "failed"]
    if not rows:
        return ""
    columns = zip(_HEAD, *rows, strict=True)
    widths = [min(max(map(len, column)), widest) for column, widest in zip(columns, _WIDEST, strict=False)]
    lines = [
        "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in (_HEAD, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def total(subject: str, results: Sequence[Result], seconds: float) -> str:
    """For example ``nft: 1387 flows of 202 scenarios: 1384 passed, 1 failed, 2 by design (12.3 s)``."""
    passed, failed, by_design = (count(results, state) for state in ("passed", "failed", "by_design"))
    scenarios = len({result.scenario for result in results})
    what = (
        f"{len(results)} flows of {scenarios} scenarios" if results and results[0].flow else f"{len(results)} cases"
    )
    return f"{subject}: {what}: {passed} passed, {failed} failed, {by_design} by design ({seconds:.1f} s)"


def as_json(results: Sequence[Result]) -> str:
    """Counts, and every flow that failed."""
    failures = [
        {"scenario": each.scenario, "flow": each.flow, "expected": each.expected, "seen": each.seen}
        for each in results
        if each.state == "failed"
    ]
    counts = {state: count(results, state) for state in ("passed", "failed", "by_design")}
    return json.dumps({**counts, "failures": failures}, indent=2, ensure_ascii=False)


def _cells(result: Result) -> tuple[str, str, str, str]:
    reason = f" ({result.reason})" if result.reason else ""
    return result.scenario, result.flow, result.expected, f"{_mark(result)}{result.seen}{reason}"


def _mark(result: Result) -> str:
    return {"passed": "ok: ", "failed": "FAILED: ", "by_design": "by design: "}[result.state]
