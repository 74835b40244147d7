"""Why these endpoints, and why not the others (B)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from kpng.explain import Explanation, NodeState
from kpng.model import EndpointInfo, IPSet, Service
from kpng.testing import endpoint_info, service

Make = Callable[..., NodeState]
Ask = Callable[..., Explanation]

POD, OUTSIDE = "10.1.9.9", "203.0.113.5"


def web(**fields: Any) -> Service:
    reached = {"load_balancer_ips": IPSet.of(["198.18.0.1"]), "type": "LoadBalancer"}
    return service("demo/web", "10.96.0.1", ports="http=80:8080", **(reached | fields))


def on(number: int, node: str = "node-b", **fields: Any) -> EndpointInfo:
    """The endpoint 10.1.0.NUMBER."""
    return endpoint_info(f"10.1.0.{number}", port="http=8080", node=node, **fields)


def a(number: int, **fields: Any) -> EndpointInfo:
    return on(number, "node-a", **fields)


TERMINATING: dict[str, Any] = {"ready": False, "terminating": True}
GONE: dict[str, Any] = TERMINATING | {"serving": False}
ZONE_A, ZONE_B = {"zone_hints": ("zone-a",)}, {"zone_hints": ("zone-b",)}
NODE_A: dict[str, Any] = {"node_hints": ("node-a",), **ZONE_A}
NODE_B: dict[str, Any] = {"node_hints": ("node-b", "node-c"), **ZONE_A}
LOCAL = "on node node-b, and the policy is Local"

CHOICES: list[tuple[str, list[EndpointInfo], str, dict[str, str]]] = [
    ("B1", [a(1), on(2)], "ready", {}),
    ("B1", [a(1), on(2, **TERMINATING)], "ready", {"10.1.0.2:8080": "terminating, while others are ready"}),
    ("B2", [a(1, ready=False), on(2, **TERMINATING)], "nothing is ready", {"10.1.0.1:8080": "not ready"}),
    ("B5", [a(1), on(2, ready=False)], "ready", {"10.1.0.2:8080": "not ready"}),
    ("B5", [a(1), on(2, **GONE)], "ready", {"10.1.0.2:8080": "terminating, and no longer serves"}),
    ("B6b", [a(1, **NODE_A), on(2, **NODE_B)], "this node (", {"10.1.0.2:8080": "hinted for nodes node-b, node-c"}),
    ("B6c", [a(1, **ZONE_A), on(2, **ZONE_B)], "zone zone-a", {"10.1.0.2:8080": "hinted for zone zone-b"}),
    ("B6c", [a(1, **ZONE_A), on(2, **NODE_B)], "this node's zone zone-a", {}),
    ("B6d", [a(1, **ZONE_B), on(2, **ZONE_B)], "ready", {}),
    ("B7", [a(1, **ZONE_A), on(2, **ZONE_B), on(3)], "ready", {}),
    (
        "B7: hints of those that are not ready do not matter",
        [a(1, **ZONE_A), on(2, **ZONE_B), on(3, ready=False)],
        "this node's zone zone-a",
        {"10.1.0.2:8080": "hinted for zone zone-b", "10.1.0.3:8080": "not ready"},
    ),
    ("A18: other families are not told of", [a(1), endpoint_info("fd00::1", port="http=8080")], "ready", {}),
    (
        "A20: without the port",
        [a(1), endpoint_info("10.1.0.2", port="https=8443")],
        "ready",
        {"10.1.0.2": "has no port http/TCP"},
    ),
    ("A22: the same in two slices is one", [a(1, **GONE), a(1), on(2), on(2, ready=False)], "ready", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "endpoints", "choice", "others"), CHOICES)
def test_b_endpoints_for_the_cluster_policy(
    name: str, endpoints: list[EndpointInfo], choice: str, others: dict[str, str], make_state: Make, ask: Ask
) -> None:
    state = make_state((web(), endpoints), zone="zone-a")
    for source, target in ((POD, "10.96.0.1:80"), (OUTSIDE, "198.18.0.1:80")):
        found = ask(state, source, target)
        assert found.choice == choice or (choice != "ready" and choice in found.choice)
        assert told(found) == others


def told(found: Explanation) -> dict[str, str]:
    assert found.left_out is not None
    return {str(each): each.why for each in found.left_out}


LOCAL_CHOICES: list[tuple[list[EndpointInfo], str, dict[str, str]]] = [
    ([a(1), on(2)], "ready, and on this node", {"10.1.0.2:8080": LOCAL}),
    ([a(1, **ZONE_B), on(2, **ZONE_A)], "ready, and on this node", {"10.1.0.2:8080": LOCAL}),
    ([a(1), a(3, **TERMINATING)], "ready, and on this", {"10.1.0.3:8080": "terminating, while others are ready"}),
    ([a(1, **TERMINATING), on(2)], "on this node nothing is ready", {"10.1.0.2:8080": LOCAL}),
    ([on(2), on(3, ready=False)], "", {"10.1.0.2:8080": LOCAL, "10.1.0.3:8080": "not ready"}),
    ([on(2, node="")], "", {"10.1.0.2:8080": "on no known node, and the policy is Local"}),
    ([on(2, **TERMINATING)], "", {"10.1.0.2:8080": LOCAL}),
    ([a(1, **GONE)], "", {"10.1.0.1:8080": "terminating, and no longer serves"}),
    ([], "", {}),
]  # fmt: skip


@pytest.mark.parametrize(("endpoints", "choice", "others"), LOCAL_CHOICES)
def test_b3_endpoints_for_the_local_policy(
    endpoints: list[EndpointInfo], choice: str, others: dict[str, str], make_state: Make, ask: Ask
) -> None:
    asked = web(internal_traffic_local=True, external_traffic_local=True)
    state = make_state((asked, endpoints), zone="zone-a")
    for source, target in ((POD, "10.96.0.1:80"), (OUTSIDE, "198.18.0.1:80")):
        found = ask(state, source, target)
        assert bool(found.choice) == bool(choice)
        assert found.choice.startswith(choice)
        assert told(found) == others


def test_b9_what_is_short_circuited_uses_the_cluster_policys_endpoints(make_state: Make, ask: Ask) -> None:
    endpoints = [a(1, **ZONE_B), on(2, **ZONE_A)]
    state = make_state((web(external_traffic_local=True), endpoints), zone="zone-a")
    found = ask(state, POD, "198.18.0.1:80")
    assert [str(target) for target in found.targets] == ["10.1.0.2:8080"]
    assert found.choice.endswith("what begins in the cluster uses endpoints as with the policy Cluster")
    assert told(found) == {"10.1.0.1:8080": "hinted for zone zone-b"}


def test_local_state_alone_tells_less(make_state: Make, ask: Ask) -> None:
    """The chosen are the same, and whether they terminate is known; what they were chosen from is not."""
    for endpoints, choice in (
        ([a(1, **ZONE_A), on(2, **ZONE_B)], "ready, as the kpng API chose them for this node"),
        ([a(1, ready=False), on(2, **TERMINATING)], "nothing is ready; these still serve"),
    ):
        whole = ask(make_state((web(), endpoints), zone="zone-a"), POD, "10.96.0.1:80")
        less = ask(make_state((web(), endpoints), zone="zone-a", is_global=False), POD, "10.96.0.1:80")
        assert less.targets == whole.targets
        assert less.choice.startswith(choice)
        assert less.left_out is None


def test_states_that_do_not_fit_are_owned_up_to(make_state: Make, ask: Ask) -> None:
    """Local and global state are asked for one after the other; in between the cluster may have changed."""
    before, after = make_state((web(), [a(1)])), make_state((web(), [a(1), on(2)]))
    found = ask(replace(before, cluster=after.cluster), POD, "10.96.0.1:80")
    assert "may be of different moments" in told(found)["10.1.0.2:8080"]
