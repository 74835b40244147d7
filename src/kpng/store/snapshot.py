"""What the store held at one revision: immutable, shared, cheap to keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

from kpng.model import EndpointInfo, Node, Service, ServiceKey

from .table import Table


class Kind(Enum):
    """The sets of the global state; a source marks each as synced."""

    SERVICES = "services"
    ENDPOINTS = "endpoints"
    NODES = "nodes"
    SERVICE_CIDRS = "service CIDRs"


class ServiceRecord:
    """A service with all its endpoints, as of the revision that last changed it. Immutable.

    ``service`` is None while only endpoints have been seen. ``sources`` maps a source's name (an
    EndpointSlice) to its endpoints. ``derived`` is for layers above: what they compute from this record
    alone they may keep here, and it lives exactly as long as the record.
    """

    __slots__ = ("derived", "key", "service", "sources")

    def __init__(
        self, key: ServiceKey, service: Service | None, sources: Mapping[str, tuple[EndpointInfo, ...]]
    ) -> None:
        self.key = key
        self.service = service
        self.sources = sources
        self.derived: dict[object, object] = {}

    def endpoints(self) -> Iterator[tuple[str, EndpointInfo]]:
        """Every (source, endpoint), in the order of the sources' names."""
        for source in sorted(self.sources):
            for endpoint in self.sources[source]:
                yield source, endpoint


class Snapshot:
    """The global state at one revision. Whoever holds it can compare it with a later one."""

    __slots__ = ("nodes", "revision", "service_cidrs", "services", "synced")

    def __init__(
        self,
        revision: int,
        services: Table[ServiceKey, ServiceRecord],
        nodes: Table[str, Node],
        service_cidrs: Table[str, tuple[str, ...]],
        synced: frozenset[Kind],
    ) -> None:
        self.revision = revision
        self.services = services
        self.nodes = nodes
        self.service_cidrs = service_cidrs
        """By the name of the ServiceCIDR; several may have the same CIDR."""
        self.synced = synced

    @property
    def complete(self) -> bool:
        """Whether every kind has been seen whole once; before that nobody may act on what is missing."""
        return len(self.synced) == len(Kind)

    def changed_services(self, since: Snapshot) -> list[ServiceKey]:
        """Keys of services that differ (themselves or their endpoints), in key order.

        Cost: the number of services that differ, whatever the number of changes in between, and some microseconds.
        """
        return sorted(self.services.changed(since.services))

    def changed_nodes(self, since: Snapshot) -> list[str]:
        """Names of Nodes that differ, in order."""
        return sorted(self.nodes.changed(since.nodes))


EMPTY = Snapshot(0, Table(), Table(), Table(), frozenset())
