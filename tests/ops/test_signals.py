"""Real processes and real signals: whatever the work does, the process ends within two seconds."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from kpng.ops import run_until_signal

pytestmark = pytest.mark.usefixtures("_hangups_are_heard")

LIMIT_SECONDS = 2.0

PROGRAM = """
import asyncio, sys, threading, time
import uvloop
from kpng.ops import run_until_signal

async def work():
    print("ready", flush=True)
    {work}

result = {runner}(run_until_signal(work()))
print("result", result, flush=True)
"""


@contextmanager
def running(work: str, runner: str = "uvloop.run", *before: str) -> Iterator[subprocess.Popen[str]]:
    indented = work.replace("\n", "\n    ")
    with subprocess.Popen(
        [*before, sys.executable, "-c", PROGRAM.format(work=indented, runner=runner)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], *signals: signal.Signals) -> tuple[int, str, str, float]:
    """Send the signals; exit code, standard output and error, and how long it took."""
    start = time.monotonic()
    for number in signals:
        process.send_signal(number)
        time.sleep(0.1 if len(signals) > 1 else 0)
    out, err = process.communicate(timeout=10)
    return process.returncode, out, err, time.monotonic() - start


WAIT = "await asyncio.sleep(3600)"
CLEAN_UP = f"""try:
    {WAIT}
finally:
    await asyncio.sleep(0.05)
    print("cleaned up", flush=True)"""


@pytest.mark.parametrize("runner", ["uvloop.run", "asyncio.run"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_cancels_the_work(number: signal.Signals, runner: str) -> None:
    with running(CLEAN_UP, runner) as process:
        code, out, err, seconds = ended(process, number)
    assert (code, out, err) == (0, "cleaned up\nresult None\n", "")
    assert seconds < 1


def test_a_hangup_that_is_to_be_ignored_is() -> None:
    """nohup(1): it goes on without its terminal."""
    with running(WAIT, "uvloop.run", "nohup") as process:
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)


HANGING = {
    "a thread that does not end": "await asyncio.to_thread(time.sleep, 3600)",
    "a thread the interpreter waits for": f"threading.Thread(target=time.sleep, args=(3600,)).start()\n{WAIT}",
    "a cancel handler that waits": f"try:\n    {WAIT}\nfinally:\n    {WAIT}",
    "a cancel handler that is busy": f"try:\n    {WAIT}\nfinally:\n    while True:\n        pass",
    "work that ignores cancelling": "while True:\n    try:\n"
    f"        {WAIT}\n    except asyncio.CancelledError:\n        pass",
}


@pytest.mark.parametrize("runner", ["uvloop.run", "asyncio.run"])
def test_what_hangs_is_ended_with_the_process(runner: str) -> None:
    with ExitStack() as stack:
        processes = {name: stack.enter_context(running(work, runner)) for name, work in HANGING.items()}
        start = time.monotonic()
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        results = {}
        for name, process in processes.items():
            process.wait(LIMIT_SECONDS + start - time.monotonic())
            assert process.stderr
            results[name] = (process.returncode, process.stderr.read())
    assert results == dict.fromkeys(HANGING, (1, ""))


def test_a_second_signal_ends_at_once() -> None:
    with running(HANGING["a cancel handler that waits"]) as process:
        code, _, err, seconds = ended(process, signal.SIGINT, signal.SIGINT)
    assert (code, err) == (1, "")
    assert seconds < 1


def test_a_failure_while_stopping_is_not_hidden() -> None:
    with running(f"try:\n    {WAIT}\nfinally:\n    raise RuntimeError('could not close')") as process:
        code, out, err, _ = ended(process, signal.SIGTERM)
    assert (code, out) == (1, "")
    assert "could not close" in err


async def test_without_a_signal_it_is_just_the_work() -> None:
    async def work() -> int:
        return 7

    assert await run_until_signal(work()) == 7


async def test_the_works_failure_is_raised() -> None:
    async def work() -> None:
        raise LookupError("no such node")

    with pytest.raises(LookupError, match="no such node"):
        await run_until_signal(work())


async def test_being_cancelled_is_no_signal() -> None:
    async def work() -> None:
        await asyncio.sleep(3600)

    task = asyncio.create_task(run_until_signal(work()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_afterwards_signals_do_what_python_does_by_default() -> None:
    def handlers() -> list[object]:
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    default: list[object] = [signal.default_int_handler, signal.SIG_DFL]

    async def work() -> list[object]:
        return handlers()

    assert await run_until_signal(work()) != default
    assert handlers() == default
