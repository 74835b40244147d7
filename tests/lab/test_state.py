"""Lock and state: only one process has a lab, and a killed one stops nobody."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kpng.lab import state
from kpng.lab.cleanup import down
from kpng.lab.state import LockHeldError, State, directory, lock, read
from kpng.model import UserError

HOLDER = """
import sys, time
from pathlib import Path
from kpng.lab import state
state.RUN = Path(sys.argv[1])
with state.lock("lab"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "RUN", tmp_path)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_the_directory_is_named_after_the_lab(tmp_path: Path) -> None:
    assert directory("lab") == tmp_path / "kpng-lab"
    with pytest.raises(UserError):
        directory("../etc")


def test_state_is_read_as_it_was_written() -> None:
    directory("lab").mkdir()
    written = State(owner=5, started=1.5, nodes=3, kept=True, processes={"brain": 7})
    written.write("lab")
    assert read("lab") == written


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"owner": 1}', '{"owner": 1, "unknown": 2}'])
def test_a_state_that_cannot_be_read_is_none(text: str) -> None:
    directory("lab").mkdir()
    (directory("lab") / "state.json").write_text(text)
    assert read("lab") is None


def test_no_state_is_none() -> None:
    assert read("lab") is None


def test_a_draft_that_was_never_finished_is_not_read() -> None:
    directory("lab").mkdir()
    State(1, 2, 3).write("lab")
    (directory("lab") / "state.tmp").write_text(json.dumps({"owner": 9}))
    assert read("lab") == State(1, 2, 3)


def test_the_lock_is_free_again_afterwards() -> None:
    for _ in range(2):
        with lock("lab"):
            assert (directory("lab") / "lock").read_text() == str(os.getpid())


def test_a_second_process_is_refused_with_the_first_ones_pid(holder: subprocess.Popen[str]) -> None:
    with pytest.raises(LockHeldError, match=f"already running .pid {holder.pid}") as refused, lock("lab"):
        pytest.fail("locked twice")
    assert refused.value.owner == holder.pid


def test_another_lab_has_another_lock(holder: subprocess.Popen[str]) -> None:
    assert holder.poll() is None
    with lock("other"):
        assert directory("other").exists()


def test_a_killed_holder_leaves_the_lock_free(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    with lock("lab"):
        assert (directory("lab") / "lock").read_text() == str(os.getpid())


def test_a_lock_file_removed_by_its_last_owner_is_not_taken_for_the_lock(holder: subprocess.Popen[str]) -> None:
    (directory("lab") / "lock").unlink()
    with lock("lab"):
        assert holder.poll() is None


def test_down_ends_the_process_that_has_the_lab(holder: subprocess.Popen[str]) -> None:
    down("lab")
    assert holder.wait(5) == -signal.SIGTERM
    assert not directory("lab").exists()
