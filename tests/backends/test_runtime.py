from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise

import pytest

from kpng.backends import run_backend, runtime
from kpng.backends.conntrack import ConntrackReconciler
from kpng.host.conntrack import ConntrackUnavailableError
from kpng.model import ChangeSet, LocalService, UserError
from kpng.testing import RecordingBackend, change_set, endpoint, full_state, key, local_service, service

WEB = key("demo/web")


def web(number: int) -> LocalService:
    return local_service(service("demo/web", "10.96.0.10"), endpoint(f"10.1.0.{number}"))


def steps(count: int) -> list[ChangeSet]:
    """The whole state, and then one change after the other."""
    states = [web(number) for number in range(1, count + 1)]
    later = [change_set([old], [new]) for old, new in pairwise(states)]
    return [full_state(states[0]), *later]


class Feed:
    """Change sets as they come; ends when told to."""

    def __init__(self, *first: ChangeSet) -> None:
        self._queue: asyncio.Queue[ChangeSet | Exception | None] = asyncio.Queue()
        self.closed = False
        self.send(*first)

    def send(self, *items: ChangeSet | Exception | None) -> None:
        for item in items:
            self._queue.put_nowait(item)

    async def __call__(self) -> AsyncIterator[ChangeSet]:
        try:
            while (item := await self._queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed = True


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "FIRST_RETRY_SECONDS", 0.005)
    monkeypatch.setattr(runtime, "LAST_RETRY_SECONDS", 0.02)


async def test_each_change_set_is_applied_between_start_and_stop() -> None:
    backend, feed = RecordingBackend(), Feed()
    running = asyncio.create_task(run_backend(backend, feed()))
    for number, step in enumerate(steps(3), start=1):
        feed.send(step)
        await backend.until_applied(number)
    feed.send(None)
    await running
    assert backend.applied == backend.asked
    assert [c.full for c in backend.applied] == [True, False, False]
    assert backend.calls == ["start", "apply", "apply", "apply", "stop"]
    assert feed.closed


async def test_nothing_at_all_starts_and_stops() -> None:
    backend, feed = RecordingBackend(), Feed()
    feed.send(None)
    await run_backend(backend, feed())
    assert backend.calls == ["start", "stop"]


async def test_once_ends_after_the_first() -> None:
    backend, feed = RecordingBackend(), Feed(full_state(web(1)))
    await asyncio.wait_for(run_backend(backend, feed(), once=True), 5)
    assert len(backend.applied) == 1
    assert backend.calls[-1] == "stop"
    assert feed.closed


async def test_once_does_not_end_before_it_succeeded() -> None:
    backend, feed = RecordingBackend([OSError("busy"), OSError("busy")]), Feed(full_state(web(1)))
    await asyncio.wait_for(run_backend(backend, feed(), once=True), 5)
    assert backend.calls == ["start", "apply", "apply", "apply", "stop"]


async def test_a_slow_backend_gets_everything_it_missed_as_one() -> None:
    backend, feed = RecordingBackend(seconds=0.02), Feed()
    running = asyncio.create_task(run_backend(backend, feed()))
    first, *later = steps(50)
    feed.send(first)
    await asyncio.sleep(0.01)
    feed.send(*later, None)
    await running
    assert len(backend.applied) == 2
    assert backend.applied[1].changes[WEB].old is not None
    assert endpoints_of(backend) == ["10.1.0.50"]


async def test_what_came_and_went_while_it_was_busy_is_not_asked_for() -> None:
    backend, feed = RecordingBackend(seconds=0.02), Feed(full_state())
    running = asyncio.create_task(run_backend(backend, feed()))
    await asyncio.sleep(0.01)
    feed.send(change_set(new=[web(1)]), change_set(old=[web(1)]))
    await backend.until_applied(1)
    await asyncio.sleep(0.01)
    feed.send(change_set(new=[web(2)]), None)
    await running
    assert [set(changes.changes) for changes in backend.asked] == [set(), {WEB}]


def endpoints_of(backend: RecordingBackend) -> list[str]:
    return [a for e in backend.services[WEB].endpoints.values() for a in e.addresses.all()]


async def test_a_failed_change_set_is_tried_again_with_what_came_since() -> None:
    backend = RecordingBackend([OSError("busy")], seconds=0.01)
    feed = Feed(*steps(1))
    running = asyncio.create_task(run_backend(backend, feed()))
    await asyncio.sleep(0.005)
    feed.send(*steps(4)[1:], None)
    await running
    assert [c.full for c in backend.asked] == [True, True]
    assert backend.asked[1].changes[WEB].old is None
    assert endpoints_of(backend) == ["10.1.0.4"]


async def test_what_came_and_went_while_it_failed_is_never_asked_for() -> None:
    backend = RecordingBackend([OSError("busy")], seconds=0.01)
    feed = Feed(full_state(web(1)))
    running = asyncio.create_task(run_backend(backend, feed()))
    await asyncio.sleep(0.005)
    feed.send(change_set(old=[web(1)]), None)
    await running
    assert backend.asked[1] == ChangeSet({}, full=True)
    assert backend.services == {}


async def test_a_lasting_fault_is_logged_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    backend = RecordingBackend([OSError("busy"), OSError("busy"), OSError("busy"), ValueError("odd")])
    with caplog.at_level(logging.INFO, "kpng.backends.runtime"):
        await run_backend(backend, Feed(full_state(web(1)))(), once=True)
    lines = [(record.levelname, record.getMessage().split(": ", 1)[-1]) for record in caplog.records]
    assert lines == [
        ("WARNING", "OSError: busy"),
        ("WARNING", "ValueError: odd"),
        ("INFO", "backend recovered after 4 failed attempts"),
    ]


def test_the_wait_doubles_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for attempt, middle in [(0, 0.1), (1, 0.2), (5, 3.2), (9, 30.0), (100_000, 30.0)]:
        assert 0.8 * middle <= runtime._retry_delay(attempt) <= 1.2 * middle


async def test_the_users_mistake_ends_the_run() -> None:
    backend = RecordingBackend([UserError("no permission")])
    feed = Feed(full_state(web(1)))
    with pytest.raises(UserError, match="no permission"):
        await run_backend(backend, feed())
    assert backend.calls == ["start", "apply", "stop"]
    assert feed.closed


async def test_a_mistake_found_at_start_ends_before_anything_is_read() -> None:
    class Unprivileged(RecordingBackend):
        async def start(self) -> None:
            raise UserError("must be root")

    backend = Unprivileged()
    with pytest.raises(UserError, match="must be root"):
        await run_backend(backend, Feed(full_state(web(1)))())
    assert backend.calls == []


async def test_what_ends_the_changes_is_raised_after_they_were_applied() -> None:
    backend = RecordingBackend()
    feed = Feed(full_state(web(1)), UserError("certificate refused"))
    with pytest.raises(UserError, match="certificate refused"):
        await run_backend(backend, feed())
    assert len(backend.applied) == 1
    assert backend.calls[-1] == "stop"


async def test_a_backend_that_fails_for_ever_does_not_hide_what_ended_the_changes() -> None:
    backend = RecordingBackend([OSError("busy")] * 1000)
    feed = Feed(full_state(web(1)), UserError("certificate refused"))
    with pytest.raises(UserError, match="certificate refused"):
        await asyncio.wait_for(run_backend(backend, feed()), 5)
    assert backend.calls[-1] == "stop"


@pytest.mark.parametrize("failures", [0, 1000])
async def test_cancelled_it_stops_the_backend_and_closes_its_source(failures: int) -> None:
    backend, feed = RecordingBackend([OSError("busy")] * failures), Feed(full_state(web(1)))
    running = asyncio.create_task(run_backend(backend, feed()))
    await asyncio.sleep(0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert backend.calls[-1] == "stop"
    assert feed.closed
    assert asyncio.all_tasks() == {asyncio.current_task()}


class NotedConntrack(ConntrackReconciler):
    """Notes what it is told; no kernel."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()
        self.calls: list[object] = []
        self._failure = failure

    def note(self, changes: ChangeSet) -> None:
        self.calls.append(changes)

    async def run(self) -> None:
        self.calls.append("run")

    async def reconcile(self) -> int:
        self.calls.append("reconcile")
        if self._failure:
            raise self._failure
        return 0

    def close(self) -> None:
        self.calls.append("close")


class TranslatingBackend(RecordingBackend):
    """As one that translates addresses."""

    def __init__(self, reconciler: NotedConntrack, failures: Iterable[Exception] = ()) -> None:
        super().__init__(failures)
        self._reconciler = reconciler

    def conntrack(self) -> ConntrackReconciler:
        return self._reconciler


async def test_connection_tracking_is_told_of_what_was_applied() -> None:
    """Not of what failed; and of a merged change set as it was applied at last."""
    conntrack = NotedConntrack()
    backend, feed = TranslatingBackend(conntrack, [OSError("busy")]), Feed(*steps(2), None)
    await run_backend(backend, feed())
    assert conntrack.calls == ["run", *backend.applied]


@pytest.mark.parametrize("failure", [None, OSError("no"), ConntrackUnavailableError("no module")])
async def test_once_is_one_pass_over_connection_tracking(
    failure: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    conntrack = NotedConntrack(failure)
    await run_backend(TranslatingBackend(conntrack), Feed(*steps(1))(), once=True)
    assert conntrack.calls[1:] == ["reconcile", "close"]
    assert len(caplog.records) == (failure is not None)


class CollapsingSource:
    """As a local view: what nobody has asked for yet is one change set when it is asked for. Counts the askings."""

    def __init__(self) -> None:
        self.number = self._told = 1
        self._news = asyncio.Event()
        self.asked = 0

    def move(self) -> None:
        """The service has another endpoint now."""
        self.number += 1
        self._news.set()

    async def __call__(self) -> AsyncIterator[ChangeSet]:
        yield full_state(web(1))
        while True:
            self.asked += 1
            while self._told == self.number:
                await self._news.wait()
                self._news.clear()
            before, self._told = self._told, self.number
            yield change_set([web(before)], [web(self._told)])


async def resting(backend: RecordingBackend, source: CollapsingSource) -> asyncio.Task[None]:
    """Run a backend until it has its first state, and has rested from it."""
    running = asyncio.create_task(run_backend(backend, source()))
    await backend.until_applied(1)
    await asyncio.sleep(2 * runtime.LONGEST_REST_SECONDS)
    return running


async def stop(running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_change_that_finds_the_backend_at_rest_is_applied_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, source = RecordingBackend(), CollapsingSource()
    running = await resting(backend, source)
    for name in ("_REST", "LONGEST_REST_SECONDS", "LONGEST_PAUSE_SECONDS"):  # from now on, waiting is for ever
        monkeypatch.setattr(runtime, name, 1e9)
    source.move()
    await asyncio.wait_for(backend.until_applied(2), 5)
    await stop(running)


async def test_what_comes_while_the_backend_rests_goes_together() -> None:
    backend, source = RecordingBackend(seconds=0.005), CollapsingSource()
    running = await resting(backend, source)
    start = time.monotonic()
    for _ in range(100):
        source.move()
        await asyncio.sleep(0.001)
    cycles = (time.monotonic() - start) / (0.005 + 0.010)  # of work, and of rest
    await asyncio.sleep(0.1)
    await stop(running)
    assert endpoints_of(backend) == ["10.1.0.101"]
    assert 2 <= len(backend.applied) <= cycles + 3
    assert source.asked <= 2 * len(backend.applied) + 2  # a busy backend's source is let alone


async def test_a_source_that_does_not_merge_is_emptied_each_time() -> None:
    """What has piled up must not be worked off one by one, with a rest each."""
    backend, feed = RecordingBackend(seconds=0.005), Feed()
    running = asyncio.create_task(run_backend(backend, feed()))
    first, *later = steps(200)
    feed.send(first)
    await backend.until_applied(1)
    feed.send(*later, None)
    await running
    assert len(backend.applied) <= 3
    assert endpoints_of(backend) == ["10.1.0.200"]


async def test_a_backend_that_does_not_end_holds_up_no_source() -> None:
    """Its source is asked again and again, only not so often."""

    class Stuck(RecordingBackend):
        def __init__(self) -> None:
            super().__init__()
            self.goes_on = asyncio.Event()

        async def apply(self, changes: ChangeSet) -> None:
            await self.goes_on.wait()
            await super().apply(changes)

    backend, source = Stuck(), CollapsingSource()
    running = asyncio.create_task(run_backend(backend, source()))
    start = time.monotonic()
    while source.asked < 4:
        source.move()
        await asyncio.sleep(0.005)
    assert time.monotonic() - start > 2 * runtime.LONGEST_PAUSE_SECONDS
    backend.goes_on.set()
    await backend.until_applied(2)
    await asyncio.sleep(2 * runtime.LONGEST_PAUSE_SECONDS)
    await stop(running)
    assert endpoints_of(backend) == [f"10.1.0.{source.number}"]
