"""A transaction: changes are staged here and applied whole, or not at all."""

from __future__ import annotations

from collections.abc import Iterable

from kpng.model import EndpointInfo, EndpointSource, Node, Service, ServiceKey

from .snapshot import Kind

SourceKey = tuple[str, str]
"""(namespace, source name), for example the EndpointSlice's."""


class Transaction:
    """Staged changes. The last word on a key counts; setting an equal value changes nothing."""

    def __init__(self) -> None:
        self.services: dict[ServiceKey, Service | None] = {}
        self.sources: dict[SourceKey, EndpointSource | None] = {}
        self.nodes: dict[str, Node | None] = {}
        self.service_cidrs: dict[str, tuple[str, ...] | None] = {}
        self.replaced: set[Kind] = set()
        self.synced: set[Kind] = set()

    def set_service(self, service: Service) -> None:
        self.services[service.key] = service

    def delete_service(self, key: ServiceKey) -> None:
        self.services[key] = None

    def set_source(self, name: str, service: ServiceKey, endpoints: Iterable[EndpointInfo]) -> None:
        """Set all endpoints of one source, in the service's namespace. A source may move to another service."""
        self.sources[(service.namespace, name)] = EndpointSource(service, tuple(endpoints))

    def delete_source(self, namespace: str, name: str) -> None:
        self.sources[(namespace, name)] = None

    def set_node(self, node: Node) -> None:
        self.nodes[node.name] = node

    def delete_node(self, name: str) -> None:
        self.nodes[name] = None

    def set_service_cidrs(self, name: str, cidrs: Iterable[str]) -> None:
        """Set the CIDRs (canonical) of one ServiceCIDR."""
        self.service_cidrs[name] = tuple(cidrs)

    def delete_service_cidrs(self, name: str) -> None:
        self.service_cidrs[name] = None

    def replace(self, *kinds: Kind) -> None:
        """Say that this transaction sets *all* objects of these kinds (a relist): what it does not set is
        deleted, and the kind is synced. What was staged for them before this call is dropped."""
        for kind in kinds:
            self._drop_staged(kind)
            self.replaced.add(kind)
            self.synced.add(kind)

    def mark_synced(self, *kinds: Kind) -> None:
        """Say that everything of these kinds has been seen, also where that is nothing."""
        self.synced.update(kinds)

    def _drop_staged(self, kind: Kind) -> None:
        if kind is Kind.SERVICES:
            self.services.clear()
        elif kind is Kind.ENDPOINTS:
            self.sources.clear()
        elif kind is Kind.NODES:
            self.nodes.clear()
        else:
            self.service_cidrs.clear()
