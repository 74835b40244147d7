"""What is told of a run."""

from __future__ import annotations

import asyncio

import pytest

from kpng.load.progress import Phase, Tally, told


@pytest.mark.parametrize(
    ("phase", "errors", "line"),
    [
        (Phase("services", 1000, 0.0, done=250), 0, "services 250/1,000 (25 %), 50/s, 15 s left"),
        (Phase("services", 1000, 0.0, done=1000), 0, "services 1,000/1,000 (100 %), 200/s, 0 s left"),
        (Phase("nodes", 10, 0.0), 0, "nodes 0/10 (0 %), 0/s"),
        (Phase("nodes", 0, 0.0), 0, "nodes 0/0 (0 %), 0/s"),
        (Phase("changes", None, 0.0, done=1500), 0, "changes 1,500, 300/s"),
        (Phase("changes", None, 0.0, done=10, until=35.0), 0, "changes 10, 2/s, 30 s left"),
        (Phase("changes", None, 0.0, done=10, until=1.0), 3, "changes 10, 2/s, 0 s left, 3 errors"),
    ],
)
def test_a_line_says_how_far_it_is(phase: Phase, errors: int, line: str) -> None:
    assert phase.line(5.0, errors) == line


def test_the_summary_adds_up() -> None:
    now = 100.0
    tally = Tally(lambda: now)
    tally.begin("changes", None, 10.0)
    tally.objects, tally.changes, tally.change_seconds = 20, 50, 10.0
    for milliseconds in range(1, 101):
        tally.wrote(milliseconds / 1000)
    tally.errors["HTTP 422"] += 2
    now = 112.5
    summary = tally.summary()
    assert summary.rate == 5.0
    assert summary.p50_ms == pytest.approx(50, rel=0.01)
    assert summary.p99_ms == pytest.approx(99, rel=0.01)
    assert summary.text() == (
        "20 objects, 50 changes (5.0/s), 100 writes (2 errors) in 12.5 s; a write took 50.0 ms (p99 99.4 ms)"
    )


@pytest.mark.parametrize("times", [[], [0.25]])
def test_a_summary_of_little(times: list[float]) -> None:
    tally = Tally()
    for seconds in times:
        tally.wrote(seconds)
    assert tally.summary().p99_ms == pytest.approx(sum(times) * 1000, rel=0.01)


async def test_is_told_while_it_runs_and_not_after(capfd: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    tally.begin("services", 10)
    async with told(tally, 0.02):
        await asyncio.sleep(0.1)
    first = capfd.readouterr().err.splitlines()
    assert len(first) >= 2
    assert first[0] == "services 0/10 (0 %), 0/s"
    await asyncio.sleep(0.05)
    assert capfd.readouterr().err == ""
