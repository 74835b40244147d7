"""The rig itself, with rules written by hand: it must see what they do, whatever backend there is."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kpng.conformance.attempts import DROP, REJECT, Seen
from kpng.conformance.flows import DetectLocal, Expectation, Flow, NodeFacts
from kpng.conformance.rig import Rig
from kpng.lab.netns import Namespace

pytestmark = pytest.mark.netns

Make = Callable[..., Any]

RULES = """
flush ruleset
table inet conntrack { chain every { type filter hook prerouting priority filter; ct state new accept; }; }
table ip test {
  chain output { type nat hook output priority -100; goto services; }
  chain prerouting { type nat hook prerouting priority dstnat; goto services; }
  chain services {
    ip daddr 10.96.0.1 meta l4proto { tcp, udp, sctp } th dport 80 dnat to 10.1.0.1:8080
    ip daddr 10.96.0.2 tcp dport 80 meta mark set 1 dnat to 10.1.0.1:8080
    ip daddr 10.96.0.3 tcp dport 80 dnat to numgen inc mod 2 map { 0 : 10.1.0.1, 1 : 10.1.0.2 }:8080
    ip daddr 10.96.0.4 meta l4proto { tcp, udp } th dport 80 dnat to 192.0.2.10:6443
  }
  chain postrouting { type nat hook postrouting priority srcnat; mark 1 masquerade fully-random; }
  chain forward { type filter hook forward priority filter; goto verdicts; }
  chain output_filter { type filter hook output priority filter; goto verdicts; }
  chain input { type filter hook input priority filter; goto verdicts; }
  chain verdicts {
    ip daddr 10.96.1.1 drop
    ip daddr 10.96.1.2 reject
    ip daddr 10.96.1.3 reject with icmp admin-prohibited
    ip daddr 10.96.1.4 meta l4proto tcp reject with tcp reset
    ip daddr 192.0.2.10 th dport 1111 drop
    ip daddr 192.0.2.10 th dport 1112 reject
  }
}
table ip6 test {
  chain output { type nat hook output priority -100; goto services; }
  chain prerouting { type nat hook prerouting priority dstnat; goto services; }
  chain services {
    ip6 daddr fd00:96::1 meta l4proto { tcp, udp, sctp } th dport 80 dnat to [fd00:1::1]:8080
    ip6 daddr fd00:96::2 tcp dport 80 meta mark set 1 dnat to [fd00:1::1]:8080
    ip6 daddr fd00:96::4 tcp dport 80 meta mark set 1 dnat to [2001:db8::a]:6443
  }
  chain postrouting { type nat hook postrouting priority srcnat; mark 1 masquerade fully-random; }
  chain forward { type filter hook forward priority filter; goto verdicts; }
  chain output_filter { type filter hook output priority filter; goto verdicts; }
  chain verdicts { ip6 daddr fd00:96:1::1 drop; ip6 daddr fd00:96:1::2 reject; }
}
"""

POD, NODE, POD6, NODE6 = "10.1.0.9", "192.0.2.10", "fd00:1::9", "2001:db8::a"
FACTS = NodeFacts("node-a", NODE, (NODE, NODE6), DetectLocal("none"))


class Bench:
    """A rig in a namespace with the rules, and a thread for it."""

    def __init__(self, namespace: Namespace, thread: ThreadPoolExecutor) -> None:
        namespace.run("nft", "-f", "-", stdin=RULES)
        self.rig = thread.submit(Rig, namespace).result()
        self._thread = thread
        self.namespace = namespace

    def send(self, *flows: Flow, satisfied: bool = False, attempts: int | None = None) -> list[Counter[Seen]]:
        """What was seen of each flow; without ``satisfied`` it waits as long as it ever does."""

        async def run() -> list[list[Seen]]:
            devices = {flow.in_iface for flow in flows if flow.in_iface}
            self.rig.become(FACTS, devices)
            return await self.rig.send(flows, lambda *_: satisfied, attempts)

        return [Counter(seen) for seen in self._thread.submit(asyncio.run, run()).result()]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Namespace(f"kpt-rig-{os.getpid()}") as namespace, namespace.executor() as thread:
        made = Bench(namespace, thread)
        try:
            yield made
        finally:
            thread.submit(made.rig.close).result()


def make(source: str, target: str, port: int, protocol: str = "tcp", **fields: Any) -> Flow:
    expect = Expectation("dnat", (fields.pop("listen"),)) if "listen" in fields else Expectation("none")
    return Flow("a flow", source, target, port, protocol, expect, **fields)  # type: ignore[arg-type]


TO_POD, TO_POD6 = Seen("dnat", "10.1.0.1:8080"), Seen("dnat", "[fd00:1::1]:8080")
TO_NODE = Seen("dnat", "192.0.2.10:6443")
SEEN: list[tuple[str, Flow, Seen]] = [
    ("pod, tcp", make(POD, "10.96.0.1", 80), TO_POD),
    ("pod, udp", make(POD, "10.96.0.1", 80, "udp"), TO_POD),
    ("pod, sctp", make(POD, "10.96.0.1", 80, "sctp"), TO_POD),
    ("pod over ipv6, tcp", make(POD6, "fd00:96::1", 80), TO_POD6),
    ("pod over ipv6, udp", make(POD6, "fd00:96::1", 80, "udp"), TO_POD6),
    ("pod over ipv6, sctp", make(POD6, "fd00:96::1", 80, "sctp"), TO_POD6),
    ("node, tcp", make(NODE, "10.96.0.1", 80), TO_POD),
    ("node, udp", make(NODE, "10.96.0.1", 80, "udp"), TO_POD),
    ("node over ipv6", make(NODE6, "fd00:96::1", 80), TO_POD6),
    ("by another device", make(POD, "10.96.0.1", 80, in_iface="cni0"), TO_POD),
    ("masqueraded", make(POD, "10.96.0.2", 80), Seen("dnat", "10.1.0.1:8080", True)),
    ("masqueraded over ipv6", make(POD6, "fd00:96::2", 80), Seen("dnat", "[fd00:1::1]:8080", True)),
    ("node, masqueraded", make(NODE, "10.96.0.2", 80), Seen("dnat", "10.1.0.1:8080", True)),
    ("node over ipv6, masqueraded", make(NODE6, "fd00:96::2", 80), Seen("dnat", "[fd00:1::1]:8080", True)),
    ("delivered here", make(POD, "10.96.0.4", 80, listen="192.0.2.10:6443"), TO_NODE),
    ("delivered here, udp", make(POD, "10.96.0.4", 80, "udp"), TO_NODE),
    ("delivered here, nobody listens", make(POD, "10.96.0.4", 80), Seen("reset")),
    ("node to itself", make(NODE, "10.96.0.4", 80, listen="192.0.2.10:6443"), TO_NODE),
    (
        "node to itself over ipv6, masqueraded by its own address",
        make(NODE6, "fd00:96::4", 80, listen="[2001:db8::a]:6443"),
        Seen("dnat", "[2001:db8::a]:6443", True),
    ),
    ("no service", make(POD, "10.96.0.9", 80), Seen("none")),
    ("another port", make(POD, "10.96.0.1", 81), Seen("none")),
    ("no service, from the node", make(NODE, "10.96.0.9", 80), Seen("none")),
    ("a port of the node", make(POD, NODE, 22), Seen("none")),
    ("a port of the node, udp", make(POD, NODE, 53, "udp"), Seen("none")),
    ("a port of the node, from itself", make(NODE, NODE, 22), Seen("none")),
    ("a port of the node, from itself, udp", make(NODE, NODE, 53, "udp"), Seen("none")),
    ("a port of the node, by loopback", make("127.0.0.1", "127.0.0.1", 22), Seen("none")),
    ("dropped", make(POD, "10.96.1.1", 80), DROP),
    ("dropped over ipv6", make(POD6, "fd00:96:1::1", 80), DROP),
    ("dropped, from the node", make(NODE, "10.96.1.1", 80), DROP),
    ("dropped, from the node, udp", make(NODE, "10.96.1.1", 80, "udp"), DROP),
    ("dropped at the node", make(POD, NODE, 1111), DROP),
    ("dropped at the node, from itself", make(NODE, NODE, 1111), DROP),
    ("rejected", make(POD, "10.96.1.2", 80), REJECT),
    ("rejected, udp", make(POD, "10.96.1.2", 80, "udp"), REJECT),
    ("rejected, sctp", make(POD, "10.96.1.2", 80, "sctp"), REJECT),
    ("rejected over ipv6", make(POD6, "fd00:96:1::2", 80), REJECT),
    ("rejected, from the node", make(NODE, "10.96.1.2", 80), REJECT),
    ("rejected, from the node over ipv6", make(NODE6, "fd00:96:1::2", 80), REJECT),
    ("rejected at the node", make(POD, NODE, 1112), REJECT),
    ("rejected at the node, from itself", make(NODE, NODE, 1112), REJECT),
    ("prohibited", make(POD, "10.96.1.3", 80), Seen(f"reject with ICMP code 13 to {POD}")),
    ("reset", make(POD, "10.96.1.4", 80), Seen("reset")),
]


@pytest.mark.parametrize(("name", "flow", "seen"), SEEN, ids=[name for name, *_ in SEEN])
def test_what_the_rules_do_is_seen(bench: Bench, name: str, flow: Flow, seen: Seen) -> None:
    assert bench.send(flow) == [Counter({seen: 3 if flow.expect.verdict == "none" else 6})]


def test_many_flows_at_once_are_told_apart(bench: Bench) -> None:
    """All but the flow that nobody must listen for, as somebody does for another."""
    chosen = [(flow, seen) for name, flow, seen in SEEN if "nobody" not in name]
    found = bench.send(*(flow for flow, _ in chosen))
    assert [set(each) for each in found] == [{seen} for _, seen in chosen]


def test_every_endpoint_is_seen(bench: Bench) -> None:
    (found,) = bench.send(make(POD, "10.96.0.3", 80), attempts=10)
    assert found == {Seen("dnat", "10.1.0.1:8080"): 5, Seen("dnat", "10.1.0.2:8080"): 5}


def test_there_is_no_waiting_for_what_is_as_it_should_be(bench: Bench) -> None:
    loop_time = asyncio.new_event_loop()
    try:
        before = loop_time.time()
        bench.send(make(POD, "10.96.1.1", 80), satisfied=True)
        quick = loop_time.time() - before
        bench.send(make(POD, "10.96.1.1", 80))
        slow = loop_time.time() - before - quick
    finally:
        loop_time.close()
    assert slow > 0.15
    assert quick < slow


def test_connections_are_forgotten_between_scenarios(bench: Bench) -> None:
    for _ in range(2):
        bench.send(make(POD, "10.96.0.4", 80, "udp"))
    bench._thread.submit(bench.rig._tracking.forget).result()
    assert "10.96.0.4" not in bench.namespace.run("ss", "-Htan")
    attempt = make(POD, "10.96.0.4", 80, "udp")
    assert bench.send(attempt) == [Counter({TO_NODE: 3})]
