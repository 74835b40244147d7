"""The global state as plain data: what files hold, before it goes into a store and after it comes out."""

from __future__ import annotations

from msgspec import Struct, field

from kpng.model import EndpointSource, Node, Service, ServiceKey

SourceKey = tuple[str, str]
"""(namespace, source name)."""


class State(Struct):
    """Services, endpoints by source, Nodes, and the CIDRs of each ServiceCIDR, by their keys."""

    services: dict[ServiceKey, Service] = field(default_factory=dict)
    sources: dict[SourceKey, EndpointSource] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    service_cidrs: dict[str, tuple[str, ...]] = field(default_factory=dict)
