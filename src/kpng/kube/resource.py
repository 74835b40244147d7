"""The three resources that kpng watches, and how it asks for them."""

from __future__ import annotations

from msgspec import Struct

from .convert import Filters

_JSON = "application/json"
_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1,application/json"


class Resource(Struct, frozen=True):
    """A resource: its path, and the ``Accept`` headers for a list and for a watch."""

    name: str
    path: str
    selector: str = ""
    accept_list: str = _JSON
    accept_watch: str = _JSON


def resources(filters: Filters) -> tuple[Resource, Resource, Resource]:
    """Services, EndpointSlices, Nodes. Of Nodes only the metadata, an eighth of the bytes; a server that
    cannot cut them down sends the whole objects (content negotiation), which decode just as well."""
    return (
        Resource("services", "/api/v1/services", filters.service_selector),
        Resource("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices", filters.slice_selector),
        Resource("nodes", "/api/v1/nodes", "", _METADATA.format("List"), _METADATA.format("")),
    )
