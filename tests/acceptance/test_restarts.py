"""Acceptance 3: brain -> relay -> agent; each is killed and started again under load.

A client opens a connection through the service every 10 ms: none may fail. And where nothing changed, a
restart must not write to the kernel: the ruleset's generation (NFT_MSG_GETGEN) stays what it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from tests.acceptance.two_pods import Load, Rig, answers, ask, until

from kpng.lab.netns import Namespace

pytestmark = [pytest.mark.netns, pytest.mark.slow]

START: dict[str, Callable[[Rig], None]] = {
    "brain": lambda rig: rig.brain("brain", 12090),
    "relay": lambda rig: rig.relay("relay", 12091, 12090),
    "agent": lambda rig: rig.agent(12091),
}


@pytest.fixture
def client(rig: Rig) -> Namespace:
    """A machine whose packets the node forwards; all of kpng is running."""
    client = rig.machine("client", "10.79.4.2")
    rig.node.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    for start in START.values():
        start(rig)
    until(lambda: answers(client), "the service answers")
    return client


def test_kill_and_restart_each_under_load(rig: Rig, client: Namespace) -> None:
    before = rig.generation()
    with Load(client) as load:
        for name, connected in (("brain", "relay"), ("relay", "agent"), ("agent", "agent")):
            connections = rig.connections(connected)
            rig.kill(name)
            time.sleep(1)
            START[name](rig)
            until(
                lambda who=connected, count=connections: rig.connections(who) > count,  # type: ignore[misc]
                f"{connected} connected again after {name} was killed",
            )
            time.sleep(1)
            assert rig.generation() == before, f"a kernel write when {name} came back with nothing changed"
    assert load.failures == []
    assert len(load.answers) > 300
    assert set(load.answers) == {"pod1", "pod2"}


def test_a_change_still_arrives_after_all_restarts(rig: Rig, client: Namespace) -> None:
    for name, start in START.items():
        rig.kill(name)
        start(rig)
    rig.put_slice("pod2")
    until(lambda: {client.call(ask) for _ in range(20)} == {"pod2"}, "only pod2 answers")


def test_an_agent_that_missed_a_change_catches_up(rig: Rig, client: Namespace) -> None:
    rig.kill("agent")
    rig.put_slice("pod1")
    START["agent"](rig)
    until(lambda: {client.call(ask) for _ in range(10)} == {"pod1"}, "only pod1 answers")
