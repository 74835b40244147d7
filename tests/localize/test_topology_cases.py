"""The recorded cases of endpoint choice (checked against kube-proxy 1.36's own function), one test each.

They are part of the package, for `kpng conformance topology`; here they are read without its help.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
from msgspec.structs import replace

from kpng.localize import choose, localize
from kpng.model import EndpointInfo
from kpng.store import ServiceRecord
from kpng.testing import endpoint_info, service

Case = dict[str, Any]
CASES: list[Case] = json.loads((files("kpng.conformance") / "data" / "topology_cases.json").read_text())["cases"]
assert len(CASES) == 128


def node_of(case: Case) -> str:
    return case["node"]["name"] or "this-node"


def endpoints_of(case: Case) -> list[EndpointInfo]:
    return [
        endpoint_info(
            recorded["address"].removesuffix(":80"),
            port=80,
            node=node_of(case) if recorded["local"] else "another-node",
            ready=recorded["ready"],
            serving=recorded["serving"],
            terminating=recorded["terminating"],
            zone_hints=tuple(recorded["zone_hints"]),
            node_hints=tuple(recorded["node_hints"]),
        )
        for recorded in case["endpoints"]
    ]


def expected(case: Case, which: str) -> set[str] | None:
    """The addresses; None where the case says nothing (the service never uses that policy)."""
    listed = case["expect"][which]
    return None if listed is None else {address.removesuffix(":80") for address in listed}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"].replace(" ", "_"))
def test_choice_is_as_recorded(case: Case) -> None:
    choice = choose(endpoints_of(case), node_of(case), case["node"]["zone_label"] or "")
    assert choice.anywhere == case["expect"]["has_any_endpoints"]
    for which, chosen in (("cluster_endpoints", choice.cluster), ("local_endpoints", choice.local)):
        wanted = expected(case, which)
        if wanted is not None:
            assert {e.addresses.v4[0] for e in chosen} == wanted


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"].replace(" ", "_"))
def test_scopes_follow_from_the_recorded_choice(case: Case) -> None:
    policies = case["service"]
    internal_local = policies["internal_traffic_policy"] == "Local"
    external_local = policies["external_traffic_policy"] == "Local"
    asked = replace(
        service("demo/web", ports="80"),
        internal_traffic_local=internal_local,
        external_traffic_local=external_local,
    )
    record = ServiceRecord(asked.key, asked, {"slice": tuple(endpoints_of(case))})
    local = localize(record, node_of(case), case["node"]["zone_label"] or "")
    assert local is not None
    assert bool(local.service.ports[0].available) == case["expect"]["has_any_endpoints"]
    for scope, is_local in (("internal", internal_local), ("external", external_local)):
        wanted = expected(case, "local_endpoints" if is_local else "cluster_endpoints")
        if wanted is not None:
            used = {e.addresses.v4[0] for e in local.endpoints.values() if getattr(e.scopes, scope)}
            assert used == wanted
