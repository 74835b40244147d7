"""A cluster's objects as the API presents them, taken in as by the kube source, and what a node is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from kpng.kube.convert import Converter, Filters
from kpng.kube.intake import node_intake, service_cidr_intake, service_intake, slice_intake
from kpng.localize import LocalView, localize
from kpng.model import LocalService, ProblemLog, ServiceKey
from kpng.store import Store

Object = dict[str, Any]


class Cluster:
    """Everything of the way from an event to a node's local state, but for the connection."""

    def __init__(self, **filters: Any) -> None:
        self.store, self.problems = Store(), ProblemLog()
        converter = Converter(Filters(**filters), "")
        self._intakes: dict[str, Any] = {
            "Service": service_intake(self.store, converter, self.problems),
            "EndpointSlice": slice_intake(self.store, converter, self.problems),
            "Node": node_intake(self.store, converter, self.problems),
            "ServiceCIDR": service_cidr_intake(self.store, converter, self.problems),
        }
        for intake in self._intakes.values():
            intake.commit(replace=True)

    def set(self, *objects: Object) -> None:
        """Objects that are new or different, each an event of its own."""
        for each in objects:
            intake = self._intakes[each["kind"]]
            intake.set(Raw(json.dumps(each).encode()))
            intake.commit(replace=False)

    def delete(self, *objects: Object) -> None:
        for each in objects:
            intake = self._intakes[each["kind"]]
            intake.delete(Raw(json.dumps(each).encode()))
            intake.commit(replace=False)

    def view(self, node: str = "n1") -> LocalView:
        return LocalView(self.store, node)

    def told(self, name: str = "web", node: str = "n1") -> LocalService:
        """What a node is told of a service that it must know."""
        snapshot = self.store.snapshot
        known = snapshot.nodes.get(node)
        found = localize(snapshot.services[ServiceKey("demo", name)], node, known.zone if known else "")
        assert found is not None
        return found

    def used(self, scope: str = "internal", *, name: str = "web", node: str = "n1") -> list[str]:
        """``address:port`` of each endpoint and port that the node may use, sorted."""
        endpoints = self.told(name, node).endpoints.values()
        return sorted(
            f"{address}:{port.port}"
            for each in endpoints
            if getattr(each.scopes, scope)
            for address in each.addresses.all()
            for port in each.ports
        )

    @property
    def complaints(self) -> list[str]:
        return [str(problem) for problem in self.problems.current]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def make_cluster() -> Callable[..., Cluster]:
    return Cluster
