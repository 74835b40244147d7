"""A node and one service, through localize as in production."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kpng.explain import ClusterState, Explanation, NodeState, Settings, explain, parse_packet
from kpng.localize import localize
from kpng.model import EndpointInfo, IPSet, LocalNode, Service
from kpng.store import ServiceRecord

NODE = LocalNode(
    name="node-a",
    addresses=IPSet.of(["192.0.2.10", "2001:db8::a"]),
    pod_cidrs=("10.1.1.0/24", "fd00:1:1::/64"),
    service_cidrs=("10.96.0.0/16", "fd00:96::/112"),
    eligible=True,
)
SETTINGS = Settings(cluster_cidrs=("10.1.0.0/16", "fd00:1::/32"))
MORE_ADDRESSES = frozenset({"198.51.100.10", "10.1.1.1"})
"""Those that only the machine knows: another network's, and the pods' bridge's."""


@pytest.fixture
def make_state() -> Callable[..., NodeState]:
    """What node-a knows of these services and endpoints: ``(service, [endpoints])`` each."""

    def make(
        *known: tuple[Service, list[EndpointInfo]],
        node: LocalNode = NODE,
        zone: str = "",
        settings: Settings = SETTINGS,
        addresses: frozenset[str] = MORE_ADDRESSES,
        is_global: bool = True,
    ) -> NodeState:
        services, endpoints = {}, {}
        for service, infos in known:
            local = localize(ServiceRecord(service.key, service, {"slice": tuple(infos)}), node.name, zone)
            assert local is not None
            services[service.key], endpoints[service.key] = local, infos
        cluster = ClusterState(endpoints, zone) if is_global else None
        return NodeState(node=node, services=services, settings=settings, addresses=addresses, cluster=cluster)

    return make


@pytest.fixture
def ask() -> Callable[..., Explanation]:
    """``ask(state, source, target, [protocol, interface])``."""

    def one(state: NodeState, source: str, target: str, *more: Any) -> Explanation:
        return explain(state, parse_packet(source, target, *more))

    return one
