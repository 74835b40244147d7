"""What a kept lab tells its user, and what ``kpng lab status`` says."""

from __future__ import annotations

import re

import pytest

from kpng.lab.instructions import instructions, status
from kpng.lab.netns import Namespace
from kpng.lab.state import State, directory
from kpng.lab.topology import plan


def test_every_namespace_that_is_named_exists_in_the_plan() -> None:
    topology = plan("second")
    text = instructions(topology)
    named = set(re.findall(r"ip netns exec (\S+)", text))
    assert named
    assert named <= {topology.namespace(machine) for machine in topology.machines}
    assert "kpng lab down --name second" in text
    assert "--kubeconfig /run/kpng-second/kubeconfig" in text


def test_the_usual_name_need_not_be_said() -> None:
    assert instructions(plan()).endswith("kpng lab down")


def test_status_of_nothing(lab_name: str) -> None:
    assert status(lab_name) == f"no lab named {lab_name!r}"


@pytest.mark.netns
@pytest.mark.parametrize(("kept", "says"), [(True, "kept running"), (False, "running or killed")])
def test_status_counts_what_is_there(lab_name: str, kept: bool, says: str) -> None:
    directory(lab_name).mkdir()
    State(owner=1, started=0, nodes=3, kept=kept, processes={"brain": 4711}).write(lab_name)
    with Namespace(f"kpng-{lab_name}-node1"):
        text = status(lab_name)
    assert says in text
    assert "1 namespaces, 0 processes" in text
    assert "brain        pid 4711" in text


@pytest.mark.netns
def test_status_of_a_lab_without_state(lab_name: str) -> None:
    with Namespace(f"kpng-{lab_name}-node1"):
        assert "started unknown; 1 namespaces" in status(lab_name)
