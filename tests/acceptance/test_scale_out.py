"""Issue 4, scale out: two brains of one API server, and relays in a tree. What is lost of them is invisible.

The kernel's own word for "invisible": the ruleset's generation (NFT_MSG_GETGEN) stays what it was, while a client
opens a connection through the service every 10 ms, of which none fails.
"""

from __future__ import annotations

import time

import pytest
from tests.acceptance.two_pods import CONTROL, Load, Rig, answers, until

pytestmark = [pytest.mark.netns, pytest.mark.slow]


def used_by(rig: Rig, who: str, ports: dict[str, int]) -> str:
    """Which of the servers it connected to last, by its own log."""
    log = rig.log(who)
    return max(ports, key=lambda name: log.rfind(f"connected to tcp://{CONTROL}:{ports[name]}"))


def test_the_loss_of_a_brain_is_invisible(rig: Rig) -> None:
    ports = {"brain-a": 12090, "brain-b": 12091}
    for name, port in ports.items():
        rig.brain(name, port)
    rig.agent(*ports.values())
    until(lambda: answers(rig.node) == {"pod1", "pod2"}, "the service answers")
    with Load(rig.node) as load:
        for _ in range(2):
            used = used_by(rig, "agent", ports)
            (other,) = set(ports) - {used}
            before, connections = rig.generation(), rig.connections("agent")
            rig.kill(used)
            until(lambda n=connections: rig.connections("agent") > n, "the agent is elsewhere")  # type: ignore[misc]
            time.sleep(1)
            assert rig.generation() == before, "nothing changed, but the kernel was written to"
            assert used_by(rig, "agent", ports) == other
            rig.put_slice("pod1")
            until(lambda: answers(rig.node) == {"pod1"}, "the next change comes through the other one")
            rig.put_slice("pod1", "pod2")
            until(lambda: answers(rig.node) == {"pod1", "pod2"}, "and the one after it")
            started = rig.log(used).count("serving on")
            rig.brain(used, ports[used])
            until(lambda name=used, n=started: rig.log(name).count("serving on") > n, "it is back")  # type: ignore[misc]
            time.sleep(1)
    assert load.failures == []
    assert len(load.answers) > 200


def test_old_connections_move_and_the_kernel_hears_nothing_of_it(rig: Rig) -> None:
    for name, port in {"brain-a": 12090, "brain-b": 12091}.items():
        rig.brain(name, port, "--max-connection-age", "300ms")
    rig.agent(12090, 12091)
    until(lambda: answers(rig.node) == {"pod1", "pod2"}, "the service answers")
    before = rig.generation()
    until(lambda: rig.log("agent").count("moved from") >= 5, "it moves again and again")
    assert rig.generation() == before
    assert "lost" not in rig.log("agent")
    rig.put_slice("pod2")
    until(lambda: answers(rig.node) == {"pod2"}, "changes still arrive")


def test_relays_in_a_tree(rig: Rig) -> None:
    """brain -> two relays -> a relay -> agent."""
    rig.brain("brain", 12090)
    middle = {"relay-a": 12091, "relay-b": 12092}
    for name, port in middle.items():
        rig.relay(name, port, 12090)
    rig.relay("leaf", 12093, *middle.values())
    rig.agent(12093)
    until(lambda: answers(rig.node) == {"pod1", "pod2"}, "the leaf tells what the brain knows")
    rig.put_slice("pod1")
    until(lambda: answers(rig.node) == {"pod1"}, "a change comes through the tree")

    used, before = used_by(rig, "leaf", middle), rig.generation()
    connections = rig.connections("leaf")
    rig.kill(used)
    until(lambda: rig.connections("leaf") > connections, "the leaf has another parent")
    time.sleep(1)
    assert rig.generation() == before
    rig.put_slice("pod2")
    until(lambda: answers(rig.node) == {"pod2"}, "changes come by the other relay")

    before = rig.generation()
    (last,) = set(middle) - {used}
    rig.kill(last)
    rig.kill("brain")
    rig.kill("agent")
    connections = rig.connections("agent")
    rig.agent(12093)  # asks a relay that has lost its parents, and gets what it had
    until(lambda: rig.connections("agent") > connections, "the agent is back")
    time.sleep(1)
    assert answers(rig.node) == {"pod2"}
    assert rig.generation() == before
    rig.brain("brain", 12090)
    rig.relay(last, middle[last], 12090)
    rig.put_slice("pod1", "pod2")
    until(lambda: answers(rig.node) == {"pod1", "pod2"}, "the tree has grown together again")
