"""A lab killed at any moment leaves nothing that a sweep does not remove."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kpng.lab.cleanup import MARK, NETNS, down, namespaces, processes, sweep
from kpng.lab.netns import Namespace
from kpng.lab.state import directory, lock

pytestmark = pytest.mark.netns

BUILDER = """
import sys
from kpng.lab.network import build
from kpng.lab.processes import Processes
from kpng.lab.state import directory, lock
from kpng.lab.topology import plan
name = sys.argv[1]
with lock(name):
    (directory(name) / "logs").mkdir()
    machines = build(plan(name))
    running = Processes(name, directory(name) / "logs")
    for machine, namespace in machines.items():
        running.start(machine, namespace, "sleep", "60")
    print("built", flush=True)
    input()
"""


def build_and_kill(name: str, after: float | None) -> None:
    """Start building a lab and kill the builder after so many seconds; None: when everything runs."""
    with subprocess.Popen(
        [sys.executable, "-c", BUILDER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as builder:
        try:
            assert builder.stdout is not None
            if after is None:
                assert builder.stdout.readline() == "built\n"
            else:
                deadline = time.monotonic() + 5
                while not namespaces(name) and time.monotonic() < deadline:
                    time.sleep(0.001)
                time.sleep(after)
        finally:
            builder.kill()


def assert_nothing_left(name: str) -> None:
    assert namespaces(name) == []
    assert processes(name) == []
    assert not directory(name).exists()


def test_a_killed_lab_is_swept(lab_name: str) -> None:
    build_and_kill(lab_name, None)
    deadline = time.monotonic() + 5
    while len(processes(lab_name)) < 12 and time.monotonic() < deadline:
        time.sleep(0.01)  # one that is just being executed has no environment to be known by
    assert len(namespaces(lab_name)) == len(processes(lab_name)) == 12
    assert down(lab_name) == "ended 12 processes, removed 12 network namespaces"
    assert_nothing_left(lab_name)


@pytest.mark.parametrize("seed", range(4))
def test_a_lab_killed_while_building_is_swept(lab_name: str, seed: int) -> None:
    build_and_kill(lab_name, random.Random(seed).uniform(0, 0.2))
    down(lab_name)
    assert_nothing_left(lab_name)


def test_down_without_a_lab_does_nothing(lab_name: str) -> None:
    assert down(lab_name) == "ended 0 processes, removed 0 network namespaces"
    assert_nothing_left(lab_name)


def test_a_namespace_whose_creation_was_interrupted_is_removed(lab_name: str) -> None:
    half = NETNS / f"kpng-{lab_name}-node1"
    NETNS.mkdir(exist_ok=True)
    half.touch()  # ip-netns(8) makes the file first and mounts the namespace on it after that
    down(lab_name)
    assert not half.exists()


def test_other_labs_and_other_processes_are_left_alone(lab_name: str) -> None:
    other = f"{lab_name}b"
    environment = os.environ | {MARK: other}
    with (
        Namespace(f"kpng-{other}-node1") as spared,
        subprocess.Popen(["sleep", "60"], env=environment) as marked,
        subprocess.Popen(["sleep", "60"]) as foreign,
    ):
        try:
            down(lab_name)
            assert spared.exists()
            assert marked.poll() is foreign.poll() is None
        finally:
            marked.kill()
            foreign.kill()


def test_a_process_outside_of_the_namespaces_is_found_by_its_mark(lab_name: str) -> None:
    with subprocess.Popen(["sleep", "60"], env=os.environ | {MARK: lab_name}) as stray:
        try:
            down(lab_name)
            assert stray.wait(5) == -signal.SIGKILL
        finally:
            stray.kill()


def test_a_guest_inside_a_namespace_is_ended(lab_name: str) -> None:
    space = Namespace(f"kpng-{lab_name}-node1")
    space.create()
    with space.popen("sleep", "60") as guest:
        while guest.pid not in space.pids():
            time.sleep(0.005)
        down(lab_name)
        assert guest.wait(5) == -signal.SIGKILL


def test_a_sweep_spares_the_lock_it_is_made_under(lab_name: str) -> None:
    with lock(lab_name):
        (directory(lab_name) / "logs").mkdir()
        (directory(lab_name) / "logs" / "brain.log").write_text("x")
        (directory(lab_name) / "kubeconfig").write_text("x")
        sweep(lab_name)
        assert [path.name for path in Path(directory(lab_name)).iterdir()] == ["lock"]
