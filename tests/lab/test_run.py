"""The whole lab, as a user runs it: with every process, real traffic, and every way to end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kpng.lab.cleanup import down, namespaces, processes
from kpng.lab.netns import Namespace
from kpng.lab.run import LabOptions, run_lab
from kpng.lab.state import directory, lock, read
from kpng.model import UserError

KPNG = (sys.executable, "-m", "kpng")
whole_lab = [pytest.mark.netns, pytest.mark.slow]


@contextmanager
def kpng_lab(name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``kpng lab`` as a process, which does not outlive the test."""
    command = [*KPNG, "lab", *arguments, "--name", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def end_of(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def run_to_end(name: str, *arguments: str) -> tuple[int, str, str]:
    with kpng_lab(name, *arguments) as process:
        return end_of(process)


def wait_for_progress(process: subprocess.Popen[str], word: str) -> None:
    """Read progress lines until one holds ``word``."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if word in line:
            return
    pytest.fail(f"no {word!r} in {seen}")


def assert_nothing_left(name: str) -> None:
    assert namespaces(name) == []
    assert processes(name) == []
    assert not directory(name).exists()


@pytest.fixture
def kept(lab_name: str) -> Iterator[str]:
    """The name of a lab of two nodes that was kept."""
    code, out, err = run_to_end(lab_name, "--keep", "--nodes", "2", "--output", "json")
    assert code == 0, err + out
    assert json.loads(out)["passed"] is True
    yield lab_name
    assert run_to_end(lab_name, "down")[0] == 0
    assert_nothing_left(lab_name)


class TestWholeLab:
    pytestmark = whole_lab

    async def test_everything_is_as_it_should_be(self, lab_name: str, capsys: pytest.CaptureFixture[str]) -> None:
        started = time.monotonic()
        code = await run_lab(LabOptions(name=lab_name))
        seen = capsys.readouterr()
        assert code == 0, seen.out + seen.err
        assert time.monotonic() - started < 60
        counts = re.search(r"^(\d+) of (\d+) scenarios as expected", seen.out, re.MULTILINE)
        assert counts
        assert counts[1] == counts[2]
        assert int(counts[1]) > 30
        assert_nothing_left(lab_name)

    def test_a_kept_lab_can_be_used_and_is_not_started_over(self, kept: str) -> None:
        state = read(kept)
        assert state is not None
        assert state.kept
        assert {"brain", "apiserver", "node1", "node2", "pods"} <= set(state.processes)
        for pid in state.processes.values():
            os.kill(pid, 0)
        control, node = Namespace(f"kpng-{kept}-control"), Namespace(f"kpng-{kept}-node1")
        kubectl = ("kubectl", "--kubeconfig", str(directory(kept) / "kubeconfig"))
        slices = str(directory(kept) / "manifests" / "endpointslices.yaml")
        assert "service/web" in control.run(*kubectl, "get", "services", "-o", "name")
        control.run(*kubectl, "delete", "endpointslice", "shop-ipv4")
        assert "shop-ipv4 serverside-applied" in control.run(*kubectl, "apply", "--server-side", "-f", slices)
        assert "table ip kpng" in node.run("nft", "list", "ruleset")
        code, out, err = run_to_end(kept)
        assert (code, out) == (2, "")
        assert "kept running" in err
        assert "Traceback" not in err

    @pytest.mark.usefixtures("_hangups_are_heard")
    @pytest.mark.parametrize(
        ("moment", "number"),
        [
            ("network:", signal.SIGINT),
            ("API server:", signal.SIGTERM),
            ("pods:", signal.SIGINT),
            ("pods:", signal.SIGHUP),
            ("sending traffic", signal.SIGTERM),
            ("changing", signal.SIGINT),
        ],
    )
    def test_a_signal_ends_it_within_two_seconds(self, lab_name: str, moment: str, number: signal.Signals) -> None:
        with kpng_lab(lab_name) as process:
            wait_for_progress(process, moment)
            sent = time.monotonic()
            process.send_signal(number)
            _, _, err = end_of(process)
        assert time.monotonic() - sent < 2
        assert process.returncode == 0
        assert "Traceback" not in err
        assert_nothing_left(lab_name)

    def test_it_does_not_live_on_when_who_started_it_is_gone(self, lab_name: str) -> None:
        with kpng_lab(lab_name) as process:
            wait_for_progress(process, "network:")
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            process.stderr.close()
            assert process.wait(60) != 0
        assert_nothing_left(lab_name)

    def test_a_killed_lab_does_not_stop_the_next(self, lab_name: str) -> None:
        """That one killed earlier, while it is being built, can be swept: see test_cleanup."""
        with kpng_lab(lab_name) as process:
            wait_for_progress(process, "kpng:")
        assert process.returncode == -signal.SIGKILL
        assert namespaces(lab_name)
        code, out, err = run_to_end(lab_name, "--nodes", "2")
        assert code == 0, err + out
        assert "remains of a killed lab" in err
        assert_nothing_left(lab_name)

    def test_a_brain_that_dies_is_named(self, lab_name: str) -> None:
        with kpng_lab(lab_name) as process:
            wait_for_progress(process, "pods:")
            brain = next(pid for pid in processes(lab_name) if b"to-api" in command_line(pid))
            os.kill(brain, signal.SIGKILL)
            code, out, err = end_of(process)
        assert (code, out) == (1, "")
        assert "brain ended early, exit code -9" in err
        assert_nothing_left(lab_name)

    def test_down_ends_a_lab_that_is_running(self, lab_name: str) -> None:
        with kpng_lab(lab_name) as process:
            wait_for_progress(process, "pods:")
            assert run_to_end(lab_name, "down")[0] == 0
            end_of(process)
        assert_nothing_left(lab_name)


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def test_a_second_lab_of_the_same_name_is_refused(lab_name: str) -> None:
    with lock(lab_name), pytest.raises(UserError, match=f"already running .pid {os.getpid()}"):
        await run_lab(LabOptions(name=lab_name))


async def test_who_is_not_root_is_told(lab_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(UserError, match="only root may"):
            await run_lab(LabOptions(name=lab_name))
        with pytest.raises(UserError, match="only root may"):
            down(lab_name)


@pytest.mark.parametrize(("present", "package"), [((), "iproute2"), (("ip",), "nftables")])
async def test_a_missing_tool_is_named_with_its_package(
    lab_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...], package: str
) -> None:
    for tool in present:
        (tmp_path / tool).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=f"apt-get install {package}"):
        await run_lab(LabOptions(name=lab_name))


@pytest.mark.parametrize(
    "options", [LabOptions(name="A B"), LabOptions(nodes=1), LabOptions(nodes=9), LabOptions(name="")]
)
async def test_options_that_cannot_be_used_are_refused(options: LabOptions) -> None:
    with pytest.raises(UserError):
        await run_lab(options)
