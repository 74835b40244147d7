"""Nothing in the lab may wait for ever: not a request, not a load, not a scenario, not a command, not the run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kpng.lab import live, netns, outcome, probes, run, traffic
from kpng.lab.cluster import Cluster
from kpng.lab.load import load
from kpng.lab.netns import CommandError, Namespace
from kpng.lab.outcome import Outcome, all_answered, overdue
from kpng.lab.pods import serve
from kpng.lab.probes import TIMEOUT, Prober, Reply, Tally, Target
from kpng.lab.run import LabOptions, run_lab
from kpng.lab.services import HTTP
from kpng.lab.state import directory
from kpng.lab.traffic import Traffic

TARGET = Target("http", "127.0.0.1", HTTP)


@pytest.fixture
async def prober(lab_name: str) -> AsyncIterator[Prober]:
    with Namespace(f"kpng-{lab_name}-limits") as namespace:
        sender = Prober(namespace)
        yield sender
        sender.close()


class Sluggish:
    """Answers like a `Prober`, but only after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asked = 0

    async def send(self, target: Target, *, source: str = "", seconds: float = 1.0) -> Reply:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        return Reply(time.monotonic(), self.seconds, "web-1", source)


def probers(sluggish: Sluggish) -> dict[str, Prober]:
    return {"caller": cast(Prober, sluggish)}


@pytest.mark.netns
async def test_a_load_ends_whatever_its_last_request_is_doing(prober: Prober) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(30):
        await serve("web-1", prober.namespace, stack)
        for number in range(100):
            async with load(prober, TARGET) as sending:
                await sending.until(lambda replies: len(replies) >= 1, 5)
                for _ in range(number % 10):
                    await asyncio.sleep(0)
            assert sending.tally.answered >= 1


@pytest.mark.netns
@pytest.mark.parametrize("steps", range(5))
async def test_a_cancellation_that_comes_together_with_the_answer_is_not_lost(
    prober: Prober, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """asyncio.wait_for loses it until Python 3.12 (cpython issue 86296); a load then went on for ever."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def talk(*_: Any) -> bytes:
        asked.set()
        await answer.wait()
        return b'{"pod": "a", "client": "b"}'

    monkeypatch.setitem(probes._TALKS, "http", talk)
    task = asyncio.create_task(prober.send(TARGET))
    await asked.wait()
    answer.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    if task.cancel():
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        assert task.result().ok


async def test_a_scenario_that_takes_too_long_is_a_failed_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "SCENARIO_SECONDS", 0.05)
    sluggish = Sluggish(0.02)
    row = await traffic.send(Traffic("slow", "caller", TARGET, (all_answered,)), probers(sluggish))
    assert row.problems == (overdue(),)
    assert not row.passed
    assert 1 <= row.tally.sent < sluggish.asked + 1 < 10
    assert row.tally.answered == row.tally.sent


async def test_a_scenario_that_is_done_in_time_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "SCENARIO_SECONDS", 5)
    row = await traffic.send(Traffic("fast", "caller", TARGET, (all_answered,), count=7), probers(Sluggish(0)))
    assert (row.passed, row.tally.sent) == (True, 7)


async def test_waiting_stops_once_enough_has_failed() -> None:
    class Silent(Sluggish):
        async def send(self, target: Target, *, source: str = "", seconds: float = 1.0) -> Reply:
            self.asked += 1
            return Reply(0, seconds, error=TIMEOUT)

    silent = Silent(0)
    row = await traffic.send(Traffic("silent", "caller", TARGET, (all_answered,)), probers(silent))
    assert silent.asked == traffic.ENOUGH_FAILURES
    assert row.problems == ("5 of 5 requests failed (5 timeout)",)


async def test_a_change_that_never_ends_is_a_failed_row_and_the_next_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(_: Cluster) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError

    async def at_once(_: Cluster) -> Outcome:
        return Outcome("", "caller", "x", Tally())

    monkeypatch.setattr(live, "SCENARIO_SECONDS", 0.05)
    monkeypatch.setattr(live, "_SCENARIOS", {"stuck": never, "next": at_once})
    cluster = cast(Cluster, SimpleNamespace(processes=SimpleNamespace(check=lambda: None)))
    rows = [row async for row in live.scenarios(cluster)]
    assert [(row.title, row.passed) for row in rows] == [("stuck", False), ("next", True)]
    assert rows[0].problems == (overdue(),)


@pytest.mark.netns
async def test_the_whole_run_has_an_end_and_leaves_nothing(
    lab_name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def stuck(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(run, "_start", stuck)
    monkeypatch.setattr(run, "RUN_SECONDS", 0.2)
    started = time.monotonic()
    assert await run_lab(LabOptions(name=lab_name)) == 1
    assert time.monotonic() - started < 5
    assert "kpng lab: not done within 0.2 s" in capsys.readouterr().err
    assert not directory(lab_name).exists()


def test_a_command_that_hangs_is_ended_and_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(netns, "COMMAND_SECONDS", 0.1)
    started = time.monotonic()
    with pytest.raises(CommandError, match=r"sleep 30: not done within 0.1 s"):
        netns.run(["sleep", "30"])
    assert time.monotonic() - started < 5
    assert netns.run(["cat"], stdin="in time") == "in time"


def test_the_limits_fit_into_each_other() -> None:
    assert live.EFFECT_SECONDS * 3 < outcome.SCENARIO_SECONDS < run.RUN_SECONDS
    assert live.PROBE_SECONDS * 10 < live.EFFECT_SECONDS
    assert traffic.ENOUGH_FAILURES * 1.0 < outcome.SCENARIO_SECONDS
