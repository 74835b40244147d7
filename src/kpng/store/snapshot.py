"""What the store held at one revision: immutable, shared, cheap to keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

from immutables import Map

from kpng.model import EndpointInfo, Node, Service, ServiceKey


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
        self.derived: dict[str, object] = {}

    def endpoints(self) -> Iterator[tuple[str, EndpointInfo]]:
        """Every (source, endpoint), in the order of the sources' names."""
        for source in sorted(self.sources):
            for endpoint in self.sources[source]:
                yield source, endpoint


class Snapshot:
    """The global state at one revision. Whoever holds it can compare it with a later one (`Store.changed`)."""

    __slots__ = ("nodes", "revision", "service_cidrs", "services", "synced")

    def __init__(
        self,
        revision: int,
        services: Map[ServiceKey, ServiceRecord],
        nodes: Map[str, Node],
        service_cidrs: Map[str, tuple[str, ...]],
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


EMPTY = Snapshot(0, Map(), Map(), Map(), frozenset())
