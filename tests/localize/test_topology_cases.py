"""Recorded cases of endpoint choice: what kube-proxy 1.36's own function answered, one test each.

An endpoint is written "NAME local|remote CONDITION... zone:HINT... node:HINT...". ``cluster`` names the endpoints
that traffic of policy Cluster may use, ``local`` those of policy Local (null: the service has no such traffic),
``anywhere`` says whether any node could serve it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from kpng.localize import choose, localize
from kpng.model import EndpointInfo
from kpng.store import ServiceRecord
from kpng.testing import endpoint_info, service

Case = dict[str, Any]
CASES: list[Case] = json.loads((Path(__file__).parent / "data" / "topology_cases.json").read_text())
assert len(CASES) == 128


def describe(case: Case) -> str:
    policies = f"internal-{case['internal']}-external-{case['external']}"
    endpoints = "+".join(text.replace(" ", "-") for text in case["endpoints"])
    return f"{case['node'] or '-'}-{case['zone'] or '-'}-{policies}-{endpoints or 'none'}"


def node_of(case: Case) -> str:
    return case["node"] or "this-node"


def address_of(name: str) -> str:
    return f"10.1.0.{ord(name)}"


def endpoint_of(case: Case, text: str) -> EndpointInfo:
    name, place, *words = text.split()
    return endpoint_info(
        address_of(name),
        port=80,
        node=node_of(case) if place == "local" else "another-node",
        ready="ready" in words,
        serving="serving" in words,
        terminating="terminating" in words,
        zone_hints=tuple(word[5:] for word in words if word.startswith("zone:")),
        node_hints=tuple(word[5:] for word in words if word.startswith("node:")),
    )


def endpoints_of(case: Case) -> list[EndpointInfo]:
    return [endpoint_of(case, text) for text in case["endpoints"]]


def expected(case: Case, which: str) -> set[str] | None:
    """The addresses; None where the service never uses that policy."""
    return None if case[which] is None else {address_of(name) for name in case[which].split()}


@pytest.mark.parametrize("case", CASES, ids=describe)
def test_choice_is_as_recorded(case: Case) -> None:
    choice = choose(endpoints_of(case), node_of(case), case["zone"])
    assert choice.anywhere == case["anywhere"]
    for which, chosen in (("cluster", choice.cluster), ("local", choice.local)):
        wanted = expected(case, which)
        if wanted is not None:
            assert {e.addresses.v4[0] for e in chosen} == wanted


@pytest.mark.parametrize("case", CASES, ids=describe)
def test_scopes_follow_from_the_recorded_choice(case: Case) -> None:
    is_local = {scope: case[scope] == "Local" for scope in ("internal", "external")}
    asked = replace(
        service("demo/web", ports="80"),
        internal_traffic_local=is_local["internal"],
        external_traffic_local=is_local["external"],
    )
    record = ServiceRecord(asked.key, asked, {"slice": tuple(endpoints_of(case))})
    local = localize(record, node_of(case), case["zone"])
    assert local is not None
    assert bool(local.service.ports[0].available) == case["anywhere"]
    for scope in ("internal", "external"):
        wanted = expected(case, "local" if is_local[scope] else "cluster")
        if wanted is not None:
            used = {e.addresses.v4[0] for e in local.endpoints.values() if getattr(e.scopes, scope)}
            assert used == wanted
