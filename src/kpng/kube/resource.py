"""The resources that kpng watches, and how it asks for them."""

from __future__ import annotations

from msgspec import Struct

from .convert import Filters


class Resource(Struct, frozen=True):
    """A resource, its path, and which of its objects: a label selector and a field selector. ``optional``: a
    cluster without it (or that does not let us see it) is fine."""

    name: str
    path: str
    selector: str = ""
    field_selector: str = ""
    optional: bool = False


def resources(filters: Filters) -> tuple[Resource, Resource, Resource, Resource]:
    """Services, EndpointSlices, Nodes, ServiceCIDRs (stable since Kubernetes 1.33)."""
    return (
        Resource("services", "/api/v1/services", filters.service_selector),
        Resource("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices", filters.slice_selector),
        Resource("nodes", "/api/v1/nodes", field_selector=filters.node_field_selector),
        Resource("servicecidrs", "/apis/networking.k8s.io/v1/servicecidrs", optional=True),
    )
