"""`to-exec` with real programs."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from click import Command
from click.testing import CliRunner

from kpng.backends import run_backend, runtime
from kpng.backends.exec import ExecBackend, ProgramError
from kpng.model import ChangeSet, UserError
from kpng.testing import change_set, endpoint, full_state, local_service, service

WEB = local_service(service("demo/web", "10.96.0.10"), endpoint("10.1.0.1"))
DNS = local_service(service("demo/dns", "10.96.0.11"), endpoint("10.1.0.2"))

Script = Callable[[str], Path]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Makes a shell script; it runs in a folder of its own, where it may leave files."""
    monkeypatch.chdir(tmp_path)

    def write(body: str) -> Path:
        path = tmp_path / "program.sh"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    return write


def backend(program: Path, *arguments: str, timeout: float = 20) -> ExecBackend:
    return ExecBackend((str(program), *arguments), timeout=timeout)


def names(text: str) -> list[str]:
    document: dict[str, Any] = json.loads(text)
    return [s["name"] for s in document["services"]]


def runs(folder: Path) -> list[str]:
    """What each run wrote, in order."""
    return [path.read_text() for path in sorted(folder.glob("run.*"))]


EACH_RUN = 'n=$(ls run.* 2>/dev/null | wc -l); cat > "run.$n"'


async def test_each_run_gets_the_whole_state(script: Script, tmp_path: Path) -> None:
    program = backend(script(EACH_RUN))
    await program.apply(full_state(WEB))
    await program.apply(change_set(new=[DNS]))
    await program.apply(change_set(old=[WEB]))
    assert [names(text) for text in runs(tmp_path)] == [["web"], ["dns", "web"], ["dns"]]
    assert all(text.endswith("\n") and text.count("\n") == 1 for text in runs(tmp_path))


async def test_it_gets_its_arguments_and_is_told_of_the_first_run(script: Script, tmp_path: Path) -> None:
    program = backend(script('echo "$KPNG_FULL:$#:$2" >> said; cat > /dev/null'), "a b", "; touch broken-out")
    await program.apply(full_state(WEB))
    await program.apply(change_set(old=[WEB]))
    assert (tmp_path / "said").read_text() == "1:2:; touch broken-out\n0:2:; touch broken-out\n"
    assert not (tmp_path / "broken-out").exists()


async def test_a_failed_run_changes_nothing(script: Script, tmp_path: Path) -> None:
    program = backend(script(f"{EACH_RUN}; test ! -e fail"))
    await program.apply(full_state(WEB))
    (tmp_path / "fail").touch()
    with pytest.raises(ProgramError, match="exit code 1"):
        await program.apply(change_set(old=[WEB], new=[DNS]))
    (tmp_path / "fail").unlink()
    await program.apply(change_set(new=[DNS]))
    assert [names(text) for text in runs(tmp_path)] == [["web"], ["dns"], ["dns", "web"]]


async def test_a_failing_program_is_run_again_with_the_newest_state(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "FIRST_RETRY_SECONDS", 0.05)
    program = script(f"echo $KPNG_FULL >> full; {EACH_RUN}; grep -q dns run.$n")
    more = asyncio.Event()

    async def changes() -> Any:
        yield full_state(WEB)
        await more.wait()
        yield change_set(new=[DNS])

    running = asyncio.create_task(run_backend(backend(program), changes()))
    while len(runs(tmp_path)) < 2:  # noqa: ASYNC110 - it is files that tell
        await asyncio.sleep(0.01)
    more.set()
    await asyncio.wait_for(running, 20)
    tried = [names(text) for text in runs(tmp_path) if text]
    assert tried == [["web"]] * (len(tried) - 1) + [["dns", "web"]]
    assert set((tmp_path / "full").read_text().split()) == {"1"}  # none has succeeded before


async def test_a_run_that_takes_too_long_is_ended_with_all_its_children(script: Script, tmp_path: Path) -> None:
    program = backend(script("sleep 300 & echo $$ $! > pids; wait"), timeout=0.3)
    with pytest.raises(ProgramError, match=r"did not end within 0\.3 s"):
        await program.apply(full_state(WEB))
    await gone(*map(int, (tmp_path / "pids").read_text().split()))


async def gone(*pids: int) -> None:
    """Wait until none of the processes runs (a zombie does not)."""
    deadline = time.monotonic() + 5
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, f"still there: {pids}"
        await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


async def test_a_program_that_ignores_sigterm_is_ended_too(script: Script, tmp_path: Path) -> None:
    program = backend(script("trap '' TERM INT; echo $$ > pids; while :; do sleep 0.05; done"), timeout=0.3)
    with pytest.raises(ProgramError):
        await program.apply(full_state(WEB))
    await gone(int((tmp_path / "pids").read_text()))


async def test_cancelled_it_ends_the_program(script: Script, tmp_path: Path) -> None:
    running = asyncio.create_task(backend(script("echo $$ > pids; sleep 300")).apply(full_state(WEB)))
    while not ((tmp_path / "pids").exists() and (tmp_path / "pids").read_text()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await gone(int((tmp_path / "pids").read_text()))


def large_state() -> ChangeSet:
    """More than a pipe holds (64 KiB)."""
    endpoints = {str(n): endpoint(f"10.1.{n >> 8}.{n & 255}") for n in range(2000)}
    return full_state(local_service(WEB.service, **endpoints))


@pytest.mark.parametrize("body", ["exit 0", "exec < /dev/null; sleep 0.1", "head -c 10 > /dev/null", "sleep 0.1"])
async def test_a_program_need_not_read_its_input(script: Script, body: str) -> None:
    await backend(script(body)).apply(large_state())


async def test_a_large_state_arrives_whole(script: Script, tmp_path: Path) -> None:
    await backend(script("cat > got")).apply(large_state())
    (only,) = json.loads((tmp_path / "got").read_text())["services"]
    assert len(only["endpoints"]) == 2000


async def test_a_program_that_neither_reads_nor_ends_is_ended(script: Script) -> None:
    with pytest.raises(ProgramError, match="did not end"):
        await backend(script("sleep 300"), timeout=0.3).apply(large_state())


async def test_a_program_killed_by_somebody_counts_as_failed(script: Script) -> None:
    with pytest.raises(ProgramError, match="exit code -9"):
        await backend(script("kill -9 $$")).apply(full_state(WEB))


@pytest.mark.parametrize("name", ["kpt-no-such-program", "./nothing-here.sh", "/"])
async def test_a_missing_program_is_the_users_mistake(name: str) -> None:
    with pytest.raises(UserError, match="no program"):
        await ExecBackend((name,)).start()


async def test_a_file_that_cannot_be_executed_is_the_users_mistake(script: Script) -> None:
    path = script("exit 0")
    path.chmod(0o644)
    with pytest.raises(UserError, match="can be executed"):
        await backend(path).start()


async def test_a_program_on_the_path_is_found() -> None:
    program = ExecBackend(("true",))
    await program.start()
    await program.apply(full_state(WEB))


async def test_a_program_that_vanished_is_waited_for(script: Script) -> None:
    path = script("exit 0")
    program = backend(path)
    await program.start()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        await program.apply(full_state(WEB))
    script("exit 0")
    await program.apply(full_state(WEB))


async def test_nothing_is_left_open(script: Script) -> None:
    program = backend(script("cat > /dev/null"))
    await program.apply(full_state(WEB))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await program.apply(full_state(WEB))
    assert len(os.listdir("/proc/self/fd")) <= before


# kpng runs on uvloop, which has a way of its own to run processes.


async def apply_all(program: ExecBackend, *change_sets: ChangeSet) -> None:
    for changes in change_sets:
        await program.apply(changes)


def test_on_uvloop_each_run_gets_the_whole_state(script: Script, tmp_path: Path) -> None:
    uvloop.run(apply_all(backend(script(EACH_RUN)), large_state(), change_set(old=[WEB], new=[DNS])))
    assert [names(text) for text in runs(tmp_path)] == [["web"], ["dns"]]


@pytest.mark.parametrize("body", ["exit 0", "exec < /dev/null; sleep 0.1", "head -c 10 > /dev/null", "sleep 0.1"])
def test_on_uvloop_a_program_need_not_read_its_input(script: Script, body: str) -> None:
    uvloop.run(apply_all(backend(script(body)), large_state(), large_state()))


def test_on_uvloop_a_run_that_takes_too_long_is_ended(script: Script, tmp_path: Path) -> None:
    async def check() -> None:
        with pytest.raises(ProgramError, match="did not end"):
            await backend(script("sleep 300 & echo $$ $! > pids; wait"), timeout=0.3).apply(large_state())
        await gone(*map(int, (tmp_path / "pids").read_text().split()))

    uvloop.run(check())


def test_on_uvloop_a_missing_program_is_waited_for(script: Script) -> None:
    with pytest.raises(FileNotFoundError):
        uvloop.run(apply_all(backend(Path("/kpt-no-such-program")), full_state(WEB)))


OPTIONS = [
    (["prog", "--flag"], 2, "No such option"),
    (["--", "prog", "--flag"], 0, "('prog', '--flag') 60.0"),
    (["--timeout", "0.5", "prog"], 0, "('prog',) 0.5"),
    (["--timeout", "0", "prog"], 2, "is not in the range"),
    ([], 2, "Missing argument"),
]


@pytest.mark.parametrize(("words", "code", "said"), OPTIONS)
def test_its_options(words: list[str], code: int, said: str) -> None:
    def show(program: tuple[str, ...], timeout: float) -> None:
        print(program, timeout)

    result = CliRunner().invoke(Command("to-exec", params=list(ExecBackend.options), callback=show), words)
    assert result.exit_code == code
    assert said in result.output
