"""Processes that do not do what they should are noticed, and their last words are shown."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kpng.lab.cleanup import processes as marked_processes
from kpng.lab.netns import Namespace
from kpng.lab.processes import LabError, Processes

pytestmark = pytest.mark.netns


@pytest.fixture
def inside(lab_name: str) -> Iterator[Namespace]:
    with Namespace(f"kpng-{lab_name}-one") as namespace:
        yield namespace


@pytest.fixture
def running(lab_name: str, tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(lab_name, tmp_path)
    yield processes
    processes.kill()


async def never() -> bool:
    return False


async def test_a_process_runs_inside_with_mark_and_log(
    running: Processes, inside: Namespace, lab_name: str
) -> None:
    running.start("talker", inside, "sh", "-c", "echo hello; echo there >&2; exec sleep 60")

    async def said() -> bool:
        return running.log("talker").read_text() == "hello\nthere\n"

    await running.wait_for("talker", "words", 5, said)
    assert inside.pids() == marked_processes(lab_name) == [running.pids()["talker"]]


async def test_one_that_ends_early_is_named_with_its_last_lines(running: Processes, inside: Namespace) -> None:
    running.start("brain", inside, "sh", "-c", "seq 100; echo no memory; exit 3")
    with pytest.raises(LabError, match="brain ended early, exit code 3") as failed:
        await running.wait_for("brain", "anything", 5, never)
    lines = str(failed.value).splitlines()
    assert lines[-1] == "  no memory"
    assert len(lines) == 1 + 15


async def test_one_that_ends_early_is_noticed_while_waiting_for_another(
    running: Processes, inside: Namespace
) -> None:
    running.start("sleeper", inside, "sleep", "60")
    running.start("brain", inside, "false")
    with pytest.raises(LabError, match="brain ended early, exit code 1"):
        await running.wait_for("sleeper", "anything", 5, never)


async def test_waiting_has_an_end(running: Processes, inside: Namespace) -> None:
    running.start("sleeper", inside, "sleep", "60")
    started = time.monotonic()
    with pytest.raises(LabError, match=r"sleeper: waking up did not happen within 0.1 s") as failed:
        await running.wait_for("sleeper", "waking up", 0.1, never)
    assert time.monotonic() - started < 2
    assert "(empty)" in str(failed.value)


async def test_stopping_is_polite(running: Processes, inside: Namespace) -> None:
    running.start(
        "polite", inside, "sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    )

    async def up() -> bool:
        return running.log("polite").read_text() == "up\n"

    await running.wait_for("polite", "start", 5, up)
    await running.stop("polite")
    assert running.log("polite").read_text() == "up\nbye\n"
    running.check()


async def test_one_that_does_not_stop_is_named(running: Processes, inside: Namespace) -> None:
    running.start("stubborn", inside, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done")

    async def up() -> bool:
        return running.log("stubborn").read_text() == "up\n"

    await running.wait_for("stubborn", "start", 5, up)
    with pytest.raises(LabError, match=r"stubborn did not end within 0.1 s of SIGTERM"):
        await running.stop("stubborn", 0.1)
    assert "stubborn" in running.pids()


def test_left_processes_live_on(running: Processes, inside: Namespace) -> None:
    running.start("sleeper", inside, "sleep", "60")
    pid = running.pids()["sleeper"]
    running.leave()
    running.kill()
    os.kill(pid, 0)
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0) == (pid, signal.SIGKILL)


async def test_kill_ends_all_at_once(running: Processes, inside: Namespace) -> None:
    for number in range(3):
        running.start(f"sleeper{number}", inside, "sleep", "60")
    running.kill()
    assert inside.pids() == []
    assert running.pids() == {}
