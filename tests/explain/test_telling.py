"""How it is told: text for people, a document for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kpng.explain import Explanation, NodeState, Settings, document, text
from kpng.model import DetectLocalMode, IPSet, LocalNode, Service
from kpng.testing import endpoint_info, service

Make = Callable[..., NodeState]
Ask = Callable[..., Explanation]

HERE = endpoint_info("10.1.1.11", "fd00:1:1::11", port="http=8080", node="node-a")
THERE = endpoint_info("10.1.2.11", port="http=8080", node="node-b")
LEAVING = endpoint_info("10.1.2.12", port="http=8080", node="node-b", ready=False, terminating=True)


def web(**fields: Any) -> Service:
    given = {"load_balancer_ips": IPSet.of(["198.18.0.1"]), "type": "LoadBalancer"}
    return service("demo/web", "10.96.0.1", "fd00:96::1", ports="http=80:8080@30080", **(given | fields))


HAIRPIN = """\
tcp 10.1.1.11 -> 10.96.0.1:80 at node node-a
  verdict    forwarded to one of 2 endpoints, each equally likely
  to         10.1.1.11:8080  masqueraded, on this node
             10.1.2.11:8080  client's address kept
  masquerade yes: hairpin: the endpoint reaches itself
             no: a pod reaches the endpoint with its own address
  service    demo/web, port http (80/TCP)
  reached by cluster IP 10.96.0.1
  sender     a pod: in 10.1.0.0/16
  policy     internalTrafficPolicy Cluster
  chosen     ready
  left out   10.1.2.12:8080  terminating, while others are ready"""

DROPPED = """\
tcp 203.0.113.5 -> 192.0.2.10:30080 at node node-a
  verdict    dropped without an answer
  because    externalTrafficPolicy Local, and no endpoint on this node is usable; there are some elsewhere
  service    demo/web, port http (80/TCP)
  reached by node port 30080 at 192.0.2.10
  sender     outside: not in 10.1.0.0/16 (--cluster-cidr)
  policy     externalTrafficPolicy Local
  left out   10.1.2.11:8080  on node node-b, and the policy is Local
             10.1.2.12:8080  on node node-b, and the policy is Local"""

SHORT_CIRCUIT = """\
tcp 192.0.2.10 -> 198.18.0.1:80 at node node-a
  verdict    forwarded
  to         10.1.2.12:8080  masqueraded, terminating
  masquerade yes: from this node itself: answers must come back here
  service    demo/web, port http (80/TCP)
  reached by load-balancer IP 198.18.0.1
  sender     a process of this node: 192.0.2.10 is this node's own address
  policy     externalTrafficPolicy Local, short-circuited
  chosen     nothing is ready; these still serve while they terminate (KEP-1669); what begins in the cluster \
uses endpoints as with the policy Cluster"""

NOTES = """\
tcp fd00:9::9 -> [fd00:96::1]:80 at node node-a
  verdict    forwarded
  to         [fd00:1:1::11]:8080  client's address kept, on this node
  masquerade no: pods cannot be told from others, so none is
  service    demo/web, port http (80/TCP)
  reached by cluster IP fd00:96::1
  sender     outside: pods cannot be told without this node's pod CIDRs for IPv6
  policy     internalTrafficPolicy Cluster
  chosen     ready, as the kpng API chose them for this node
  left out   not known: only this node's state was there to ask
  note       nothing is known of a Node node-a: no pod CIDRs, and no addresses but those given
  note       session affinity: a client that made a connection in the last 600 s is sent to the same endpoint \
again, if that is among these"""

REJECTED = """\
icmp 10.1.1.11 -> 10.96.0.1 at node node-a
  verdict    rejected: answered with ICMP port unreachable
  because    cluster IP of Service demo/web, which answers only at its ports
  sender     a pod: in 10.1.0.0/16"""

LEFT_ALONE = """\
udp 10.1.1.11 -> 203.0.113.9:53 at node node-a
  verdict    left alone: routing and others' rules decide
  because    no Service has this address
  sender     a pod: in 10.1.0.0/16"""

REFUSED = """\
tcp 203.0.113.5 -> 198.18.0.1:80 at node node-a
  verdict    dropped without an answer
  because    203.0.113.5 is in none of loadBalancerSourceRanges (192.0.2.0/24)
  service    demo/web, port http (80/TCP)
  reached by load-balancer IP 198.18.0.1
  sender     outside: not in 10.1.0.0/16 (--cluster-cidr)"""


@pytest.fixture
def told(make_state: Make, ask: Ask) -> dict[str, Explanation]:
    local = web(external_traffic_local=True)
    cluster = make_state((web(), [HERE, THERE, LEAVING]))
    unknown = make_state(
        (web(session_affinity_seconds=600), [HERE]),
        node=LocalNode(name="node-a"),
        settings=Settings(DetectLocalMode.NODE_CIDR),
        is_global=False,
    )
    restricted = make_state((web(source_ranges=("192.0.2.0/24",)), [HERE]))
    return {
        HAIRPIN: ask(cluster, "10.1.1.11", "10.96.0.1:80"),
        DROPPED: ask(make_state((local, [THERE, LEAVING])), "203.0.113.5", "192.0.2.10:30080"),
        SHORT_CIRCUIT: ask(make_state((local, [LEAVING])), "192.0.2.10", "198.18.0.1:80"),
        NOTES: ask(unknown, "fd00:9::9", "[fd00:96::1]:80"),
        REJECTED: ask(cluster, "10.1.1.11", "10.96.0.1", "icmp"),
        LEFT_ALONE: ask(cluster, "10.1.1.11", "203.0.113.9:53", "udp"),
        REFUSED: ask(restricted, "203.0.113.5", "198.18.0.1:80"),
    }


@pytest.mark.parametrize("wanted", [HAIRPIN, DROPPED, SHORT_CIRCUIT, NOTES, REJECTED, LEFT_ALONE, REFUSED])
def test_text(wanted: str, told: dict[str, Explanation]) -> None:
    assert text(told[wanted]) == wanted


def test_document_of_what_is_forwarded(told: dict[str, Explanation]) -> None:
    assert document(told[HAIRPIN]) == {
        "node": "node-a",
        "packet": {"from": "10.1.1.11", "to": "10.96.0.1", "port": 80, "protocol": "tcp", "in_interface": None},
        "sender": {"origin": "pod", "why": "in 10.1.0.0/16"},
        "verdict": "forward",
        "reason": "cluster IP of Service demo/web",
        "frontend": {
            "kind": "cluster_ip",
            "service": "demo/web",
            "port": {"name": "http", "port": 80, "protocol": "TCP", "node_port": 30080},
            "session_affinity_seconds": 0,
        },
        "policy": "internalTrafficPolicy Cluster",
        "scope": "internal",
        "endpoints": [
            {
                "address": "10.1.1.11",
                "port": 8080,
                "local": True,
                "terminating": False,
                "masquerade": True,
                "masquerade_why": "hairpin: the endpoint reaches itself",
            },
            {
                "address": "10.1.2.11",
                "port": 8080,
                "local": False,
                "terminating": False,
                "masquerade": False,
                "masquerade_why": "a pod reaches the endpoint with its own address",
            },
        ],
        "choice": "ready",
        "left_out": [{"address": "10.1.2.12", "port": 8080, "why": "terminating, while others are ready"}],
        "notes": [],
    }


@pytest.mark.parametrize(
    ("which", "verdict", "scope", "left_out"),
    [
        (DROPPED, "drop", "external", 2),
        (SHORT_CIRCUIT, "forward", "short_circuit", 0),
        (NOTES, "forward", "internal", None),
        (REJECTED, "reject", None, None),
        (LEFT_ALONE, "none", None, None),
        (REFUSED, "drop", None, None),
    ],
)
def test_documents_have_the_same_keys(
    which: str, verdict: str, scope: str | None, left_out: int | None, told: dict[str, Explanation]
) -> None:
    found = json.loads(json.dumps(document(told[which])))
    assert found.keys() == document(told[HAIRPIN]).keys()
    assert (found["verdict"], found["scope"]) == (verdict, scope)
    assert (None if found["left_out"] is None else len(found["left_out"])) == left_out
    assert bool(found["endpoints"]) == (verdict == "forward")
