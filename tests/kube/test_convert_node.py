"""Nodes: what a node's addresses, pod CIDRs and eligibility are (K2, K6, KEP-3836)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kpng.kube import objects
from kpng.kube.convert import Converter, Filters
from kpng.model import IPSet, Node

ADDRESSES: list[tuple[list[tuple[str, str]], IPSet]] = [
    ([], IPSet()),
    ([("Hostname", "n1")], IPSet()),
    ([("InternalIP", "192.0.2.1")], IPSet(("192.0.2.1",))),
    ([("InternalIP", "192.0.2.2"), ("InternalIP", "192.0.2.1")], IPSet(("192.0.2.2",))),
    ([("ExternalIP", "203.0.113.1"), ("InternalIP", "192.0.2.1")], IPSet(("192.0.2.1",))),
    ([("ExternalIP", "203.0.113.1"), ("InternalIP", "fd00::1")], IPSet(("203.0.113.1",), ("fd00::1",))),
    ([("InternalIP", "fd00:0::1"), ("InternalIP", "192.000.002.001")], IPSet(("192.0.2.1",), ("fd00::1",))),
    ([("InternalIP", "nonsense"), ("InternalIP", "192.0.2.1")], IPSet(("192.0.2.1",))),
]


def convert(thing: dict[str, Any]) -> tuple[Node | None, list[str]]:
    outcome = Converter(Filters()).node(msgspec.convert(thing, objects.Node))
    return outcome.value, [str(problem) for problem in outcome.problems]


def node(**parts: Any) -> dict[str, Any]:
    return {"metadata": {"name": "n1"}, **parts}


@pytest.mark.parametrize(("given", "wanted"), ADDRESSES)
def test_k2_addresses(given: list[tuple[str, str]], wanted: IPSet) -> None:
    addresses = [{"type": kind, "address": address} for kind, address in given]
    found, problems = convert(node(status={"addresses": addresses}))
    assert found is not None
    assert found.addresses == wanted
    assert problems == (
        ["Node n1: status.addresses[0].address: 'nonsense' is not an IP address"]
        if given[:1] == [("InternalIP", "nonsense")]
        else []
    )


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({}, ()),
        ({"podCIDR": "10.1.0.0/24"}, ("10.1.0.0/24",)),
        ({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd00:1::/64"]}, ("10.1.0.0/24", "fd00:1::/64")),
        ({"podCIDRs": None}, ()),
        ({"podCIDRs": ["10.1.0.7/24", "x"]}, ("10.1.0.0/24",)),
    ],
)
def test_pod_cidrs(spec: dict[str, Any], wanted: tuple[str, ...]) -> None:
    found, problems = convert(node(spec=spec))
    assert found is not None
    assert found.pod_cidrs == wanted
    assert problems == (["Node n1: spec.podCIDRs[1]: 'x' is not a CIDR"] if "x" in str(spec) else [])


@pytest.mark.parametrize(
    ("thing", "eligible"),
    [
        (node(), True),
        (node(spec={"unschedulable": True}), True),
        (node(spec={"taints": [{"key": "node.kubernetes.io/not-ready"}]}), True),
        (node(spec={"taints": [{"key": "x"}, {"key": "ToBeDeletedByClusterAutoscaler"}]}), False),
        ({"metadata": {"name": "n1", "deletionTimestamp": "2026-11-23T00:00:00Z"}}, False),
    ],
)
def test_k6_eligible(thing: dict[str, Any], eligible: bool) -> None:
    found, _ = convert(thing)
    assert found is not None
    assert found.eligible is eligible


@pytest.mark.parametrize("thing", [node(spec=None, status=None), node(status={"addresses": None})])
def test_nothing_known_is_no_problem(thing: dict[str, Any]) -> None:
    assert convert(thing) == (Node(name="n1"), [])
