"""The kinds this server knows. A new kind is one entry of `KINDS`,
and one of `columns.COLUMNS` if kubectl shows more than its age."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
"""One API object, as JSON decodes it."""

Key = tuple[str, str]
"""Namespace ("" for cluster-wide kinds) and name."""

VERBS = ("create", "delete", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, eq=False)
class Kind:
    """What the server must know of a kind to serve it.

    ``fields`` are the field selectors beyond metadata.name and metadata.namespace. ``drops_status``: a create
    through the API loses its status, as for the real Service and Pod. ``lists`` maps the path of a list to the
    keys by which its items are merged (patchMergeKey and x-kubernetes-list-map-keys of the API types); the
    empty tuple is a set of scalars; a list not named is replaced whole.
    """

    name: str
    plural: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    has_status: bool = True
    drops_status: bool = False
    lists: Mapping[str, tuple[str, ...]] | None = None

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """The name in messages: services, endpointslices.discovery.k8s.io."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified(self) -> str:
        """The kind in messages: Service, EndpointSlice.discovery.k8s.io."""
        return f"{self.name}.{self.group}" if self.group else self.name

    @property
    def root(self) -> str:
        """The path of its group and version: /api/v1, /apis/discovery.k8s.io/v1."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def key(self, thing: Object) -> Key:
        metadata = thing["metadata"]
        return (metadata.get("namespace", "") if self.namespaced else "", metadata["name"])

    def merge_keys(self, path: str) -> tuple[str, ...] | None:
        """The keys of the list at ``path`` ("spec.ports"); None if the list is atomic."""
        return COMMON_LISTS.get(path, (self.lists or {}).get(path))


COMMON_LISTS: Mapping[str, tuple[str, ...]] = {
    "metadata.ownerReferences": ("uid",),
    "metadata.finalizers": (),
    "status.conditions": ("type",),
}

_POD_LISTS = {
    "spec.containers": ("name",),
    "spec.containers.ports": ("containerPort", "protocol"),
    "spec.containers.env": ("name",),
    "status.podIPs": ("ip",),
}
NAMESPACE = Kind("Namespace", "namespaces", namespaced=False, short_names=("ns",), fields=("status.phase",))
NODE = Kind(
    "Node",
    "nodes",
    namespaced=False,
    short_names=("no",),
    fields=("spec.unschedulable",),
    lists={"spec.podCIDRs": (), "status.addresses": ("type",)},
)
POD = Kind(
    "Pod",
    "pods",
    short_names=("po",),
    categories=("all",),
    fields=("spec.nodeName", "status.phase", "status.podIP"),
    drops_status=True,
    lists=_POD_LISTS,
)
SERVICE = Kind(
    "Service",
    "services",
    short_names=("svc",),
    categories=("all",),
    fields=("spec.clusterIP", "spec.type"),
    drops_status=True,
    lists={"spec.ports": ("port", "protocol")},
)
ENDPOINT_SLICE = Kind("EndpointSlice", "endpointslices", group="discovery.k8s.io", has_status=False)
SERVICE_CIDR = Kind(
    "ServiceCIDR",
    "servicecidrs",
    group="networking.k8s.io",
    namespaced=False,
    lists={"spec.cidrs": ()},
)

KINDS = (NAMESPACE, NODE, POD, SERVICE, ENDPOINT_SLICE, SERVICE_CIDR)

BY_PLURAL = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}
BY_NAME = {(kind.api_version, kind.name): kind for kind in KINDS}
