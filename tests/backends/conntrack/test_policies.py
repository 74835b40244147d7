"""O5, from the cluster's objects on: policies break no flow to an endpoint that serves; what the local state leaves
out does not serve as far as this node can tell (docs/semantics.md, "Conntrack")."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from kpng.backends.conntrack import Planner
from kpng.host.conntrack import Flow, socket_address
from kpng.localize import localize
from kpng.model import EndpointInfo, LocalService
from kpng.store import ServiceRecord
from kpng.testing import change_set, endpoint_info, full_state, service

MakeFlow = Callable[..., Flow]
NODE = "192.0.2.1"
PLAIN = service("demo/dns", "10.96.0.10", ports="53:5353/UDP")
REACHED = service("demo/dns", "10.96.0.10", ports="53:5353/UDP@30053")
HERE = endpoint_info("10.1.0.1", port="5353/UDP", node="here", zone="a")
THERE = endpoint_info("10.1.0.2", port="5353/UDP", node="there", zone="b")
POLICIES = list(itertools.product([False, True], repeat=2))


def on_this_node(of: Any, *endpoints: EndpointInfo) -> LocalService:
    found = localize(ServiceRecord(of.key, of, {"slice": endpoints}), "here", "a")
    assert found is not None
    return found


def stale_after(before: LocalService, after: LocalService, *flows: Flow) -> list[bool]:
    """Of flows that were there before."""
    planner = Planner()
    planner.note(full_state(before))
    planner.done()
    planner.note(change_set([before], [after]))
    plan = planner.plan([socket_address(NODE, 0)[:-2]])
    if plan is None:
        return [False] * len(flows)
    asked = [flow for flow in flows if any(query.names(flow) for query in plan.queries)]
    return [flow in asked and plan.is_stale(flow) for flow in flows]


def flows_of(make: MakeFlow, destination: str) -> list[Flow]:
    return [make(destination, f"{info.addresses.v4[0]}:5353") for info in (HERE, THERE)]


@pytest.mark.parametrize("frontend", ["10.96.0.10:53", f"{NODE}:30053"])
@pytest.mark.parametrize("after", POLICIES)
@pytest.mark.parametrize("before", POLICIES)
def test_o5_a_policy_breaks_no_flow(
    flow: MakeFlow, before: tuple[bool, bool], after: tuple[bool, bool], frontend: str
) -> None:
    old, new = (
        on_this_node(
            replace(REACHED, internal_traffic_local=internal, external_traffic_local=external), HERE, THERE
        )
        for internal, external in (before, after)
    )
    assert stale_after(old, new, *flows_of(flow, frontend)) == [False, False]


def test_o5_internal_policy_of_a_service_without_reach(flow: MakeFlow) -> None:
    old, new = (on_this_node(replace(PLAIN, internal_traffic_local=local), HERE, THERE) for local in (False, True))
    assert stale_after(old, new, *flows_of(flow, "10.96.0.10:53")) == [False, False]


def changed(info: EndpointInfo, **fields: Any) -> EndpointInfo:
    return replace(info, **fields)


TERMINATING = {"ready": False, "serving": True, "terminating": True}
NOT_SERVING = {"ready": False, "serving": False, "terminating": True}
CHANGES = {
    "both go on": ((HERE, THERE), [False, False]),
    "one is gone": ((HERE,), [False, True]),
    "one no longer serves": ((HERE, changed(THERE, **NOT_SERVING)), [False, True]),
    "all terminate, and serve": ((changed(HERE, **TERMINATING), changed(THERE, **TERMINATING)), [False, False]),
    "one terminates, and serves": ((HERE, changed(THERE, **TERMINATING)), [False, False]),
    "topology keeps to the zone": (
        (changed(HERE, zone_hints=("a",)), changed(THERE, zone_hints=("b",))),
        [False, True],
    ),
    "nobody is left": ((), [True, True]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_o5_what_the_local_state_names_serves(flow: MakeFlow, name: str) -> None:
    """One of these differs from kube-proxy, knowingly: an endpoint that topology has come to exclude."""
    endpoints, expected = CHANGES[name]
    old, new = on_this_node(PLAIN, HERE, THERE), on_this_node(PLAIN, *endpoints)
    assert stale_after(old, new, *flows_of(flow, "10.96.0.10:53")) == expected
