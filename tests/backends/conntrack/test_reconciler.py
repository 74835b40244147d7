"""The driver: passes in the background, what piles up, what fails. The kernel here is an object that remembers."""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest

from kpng.backends.conntrack import ConntrackReconciler, reconciler
from kpng.host.conntrack import ConntrackUnavailableError, Flow, Query, socket_address
from kpng.model import LocalService
from kpng.testing import change_set, endpoint, full_state, local_service, service

MakeFlow = Callable[..., Flow]
PODS = [endpoint(f"10.1.0.{n}", port="5353/UDP") for n in range(4)]


def dns(*pods: int, protocol: str = "UDP", node_port: str = "") -> LocalService:
    made = service("demo/dns", "10.96.0.10", ports=f"53:5353/{protocol}{node_port}")
    return local_service(made, *(PODS[n] for n in pods))


class Kernel:
    """Stands for `Conntrack`. ``failures``: what the next lists raise, one after the other."""

    def __init__(self) -> None:
        self.table: list[Flow] = []
        self.asked: list[Query] = []
        self.failures: list[Exception] = []
        self.threads: set[int] = set()
        self.opened = self.closed = 0
        self.hold: threading.Event | None = None
        self.busy = threading.Event()

    def __call__(self) -> Kernel:
        self.opened += 1
        return self

    def flows(self, query: Query) -> Iterator[Flow]:
        self.threads.add(threading.get_ident())
        self.asked.append(query)
        self.busy.set()
        if self.hold is not None:
            assert self.hold.wait(5)
        if self.failures:
            raise self.failures.pop(0)
        yield from [flow for flow in self.table if query.names(flow)]

    def delete(self, flows: Sequence[Flow]) -> int:
        before = len(self.table)
        self.table = [flow for flow in self.table if flow not in flows]
        return before - len(self.table)

    def close(self) -> None:
        assert self.hold is None or self.hold.is_set(), "closed while in use"
        self.closed += 1


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(reconciler, "Conntrack", made)
    monkeypatch.setattr(reconciler, "FIRST_RETRY_SECONDS", 0.005)
    return made


@asynccontextmanager
async def running(one: ConntrackReconciler) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(one.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - conditions of many kinds
            await asyncio.sleep(0.001)


async def test_a_pass(kernel: Kernel, flow: MakeFlow) -> None:
    good, stale, foreign = flow("10.96.0.10:53", "10.1.0.1:5353"), flow("10.96.0.10:53"), flow("192.0.2.9:53")
    kernel.table = [good, stale, foreign]
    one = ConntrackReconciler()
    one.note(full_state(dns(1)))
    assert await one.reconcile() == 1
    assert kernel.table == [good, foreign]
    assert (one.removed, one.passes) == (1, 1)
    assert threading.get_ident() not in kernel.threads, "the event loop goes on meanwhile"
    one.close()
    assert kernel.closed == 1


async def test_without_udp_the_kernel_is_never_asked(kernel: Kernel) -> None:
    one = ConntrackReconciler()
    one.note(full_state(dns(1, protocol="TCP")))
    assert await one.reconcile() == 0
    one.note(change_set([dns(1, protocol="TCP")], [dns(2, protocol="TCP")]))
    assert await one.reconcile() == 0
    assert (kernel.opened, one.passes) == (0, 0)


async def test_it_runs_by_itself(kernel: Kernel, flow: MakeFlow) -> None:
    one = ConntrackReconciler()
    async with running(one):
        one.note(full_state(dns(1, 2)))
        await until(lambda: one.passes == 1)
        kernel.table = [flow("10.96.0.10:53", "10.1.0.1:5353"), flow("10.96.0.10:53", "10.1.0.2:5353")]
        one.note(change_set([dns(1, 2)], [dns(2)]))
        await until(lambda: one.removed == 1)
    assert kernel.table == [flow("10.96.0.10:53", "10.1.0.2:5353")]
    assert kernel.closed == 1


async def test_what_piles_up_is_one_pass(kernel: Kernel, flow: MakeFlow) -> None:
    kernel.hold = threading.Event()
    one = ConntrackReconciler()
    async with running(one):
        one.note(full_state(dns(0, 1, 2, 3)))
        await until(kernel.busy.is_set)
        states = [dns(0, 1, 2, 3), dns(1, 2, 3), dns(2, 3), dns(3)]
        for before, after in itertools.pairwise(states):
            one.note(change_set([before], [after]))
        kernel.table = [flow("10.96.0.10:53", f"10.1.0.{n}:5353") for n in range(4)]
        kernel.hold.set()
        await until(lambda: kernel.table == [flow("10.96.0.10:53", "10.1.0.3:5353")])
    assert one.passes == 2


NOTHING: list[LocalService] = []
IN_BETWEEN = [
    pytest.param([[dns(1)], [dns(1, 2)], [dns(1)]], "10.1.0.2:5353", id="an endpoint came and went"),
    pytest.param([[dns(1)], [dns(2)], [dns(1)]], "10.1.0.2:5353", id="another took its place for a while"),
    pytest.param([[dns(1)], NOTHING, [dns(1)]], "", id="for a while there was no service"),
]


@pytest.mark.parametrize(("states", "answered_by"), IN_BETWEEN)
async def test_what_was_real_in_between_has_left_its_flows(
    kernel: Kernel, flow: MakeFlow, states: list[list[LocalService]], answered_by: str
) -> None:
    """All of it was in the kernel before the pass came, however little is left of it."""
    one = ConntrackReconciler()
    one.note(full_state(*states[0]))
    await one.reconcile()
    for before, after in itertools.pairwise(states):
        one.note(change_set(before, after))
    good = flow("10.96.0.10:53", "10.1.0.1:5353")
    kernel.table = [good, flow("10.96.0.10:53", answered_by)]
    assert await one.reconcile() == 1
    assert kernel.table == [good]


async def test_passing_failures_are_retried_and_told_once(
    kernel: Kernel, flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.table = [flow("10.96.0.10:53")]
    kernel.failures = [OSError(errno.ENOBUFS, "No buffer space available")] * 3
    one = ConntrackReconciler()
    with caplog.at_level(logging.INFO, logger="kpng"):
        async with running(one):
            one.note(full_state(dns(1)))
            await until(lambda: one.removed == 1)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "No buffer space available" in warnings[0]
    assert one.passes == 4


async def test_what_nobody_thought_of_is_told_and_not_the_end(
    kernel: Kernel, flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.table = [flow("10.96.0.10:53")]
    kernel.failures = [KeyError("no such thing")] * 3
    one = ConntrackReconciler()
    async with running(one):
        one.note(full_state(dns(1)))
        await until(lambda: one.removed == 1)
    assert caplog.text.count("KeyError: 'no such thing'") == 1


async def test_changes_during_a_failure_are_not_lost(kernel: Kernel, flow: MakeFlow) -> None:
    one = ConntrackReconciler()
    one.note(full_state(dns(1, 2, 3)))
    await one.reconcile()
    kernel.table = [flow("10.96.0.10:53", f"10.1.0.{n}:5353") for n in (1, 2, 3)]
    kernel.failures = [InterruptedError("kept changing")]
    one.note(change_set([dns(1, 2, 3)], [dns(2, 3)]))
    with pytest.raises(InterruptedError):
        await one.reconcile()
    one.note(change_set([dns(2, 3)], [dns(3)]))
    assert await one.reconcile() == 2
    assert kernel.table == [flow("10.96.0.10:53", "10.1.0.3:5353")]


async def test_a_kernel_without_connection_tracking_is_told_once_and_left_alone(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.failures = [ConntrackUnavailableError("this kernel offers no connection tracking: Invalid argument")]
    one = ConntrackReconciler()
    async with running(one) as task:
        one.note(full_state(dns(1)))
        await asyncio.wait_for(task, 5)
        one.note(change_set([dns(1)], [dns(2)]))
        await asyncio.sleep(0.02)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["stale UDP flows are not removed: this kernel offers no connection tracking: Invalid argument"]
    assert len(kernel.asked) == 1


async def test_the_end_waits_for_the_pass(kernel: Kernel) -> None:
    """The connection is not taken away from the thread that uses it."""
    kernel.hold = threading.Event()
    one = ConntrackReconciler()
    async with running(one) as task:
        one.note(full_state(dns(1)))
        await until(kernel.busy.is_set)
        task.cancel()
        await asyncio.sleep(0.02)
        assert not task.done()
        kernel.hold.set()
    assert task.cancelled()
    assert kernel.closed == 1


async def test_node_ports_count_where_the_node_takes_them(kernel: Kernel, flow: MakeFlow) -> None:
    """X7; the addresses are those of the moment, and only asked for where there are node ports."""
    asked: list[str] = []

    def addresses() -> list[str]:
        asked.append("192.0.2.1")
        return asked[-1:]

    one = ConntrackReconciler(node_port_addresses=addresses)
    one.note(full_state(dns(1)))
    await one.reconcile()
    assert asked == []
    kernel.table = [flow("192.0.2.1:30053", "10.1.0.9:5353"), flow("192.0.2.2:30053", "10.1.0.9:5353")]
    one.note(change_set([dns(1)], [dns(1, node_port="@30053")]))
    assert await one.reconcile() == 1
    assert [found.destination for found in kernel.table] == [socket_address("192.0.2.2", 30053)]
    assert asked == ["192.0.2.1"]


RESTS = [(0.01, 0.04), (0.5, 2.0), (60.0, reconciler._LONGEST_REST_SECONDS)]


@pytest.mark.parametrize(("took", "expected"), RESTS)
async def test_passes_without_end_leave_room(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, took: float, expected: float
) -> None:
    """After a pass comes a rest in proportion, so that changes that never end do not keep the kernel busy. The
    time spent waiting for a kernel that fails does not count."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def sleeping(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    ticks = itertools.count(0, took)
    monkeypatch.setattr(reconciler.asyncio, "sleep", sleeping)
    monkeypatch.setattr(reconciler, "monotonic", lambda: next(ticks))
    kernel.failures = [OSError(errno.ENOBUFS, "No buffer space available")]
    one = ConntrackReconciler()
    one.note(full_state(dns(1)))
    running = asyncio.ensure_future(one.run())
    while len(slept) < 2:
        await sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert one.passes == 2
    assert slept[1] == pytest.approx(expected)
