"""The conversions with the user's filters applied."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from kpng.kube.objects import EndpointSlice, ServiceCIDR
from kpng.kube.objects import Node as KubeNode
from kpng.kube.objects import Service as KubeService
from kpng.model import Node, Problem, Service

from .common import Faults, check_identity, subject_of
from .filters import HEADLESS_LABEL, Filters, GlobSet
from .node import node_fields, service_cidrs
from .service import service_fields
from .slices import NamedSource, slice_source

T = TypeVar("T")


class Outcome(Struct, Generic[T], frozen=True, gc=False):
    """What became of an object: None where it is nothing to kpng, and its problems under its subject."""

    subject: str
    value: T | None
    problems: list[Problem]


class Converter:
    """Converts objects of one origin (a file's name, a server's URL, or ""), by the user's filters."""

    def __init__(self, filters: Filters, origin: str = "") -> None:
        self.origin = origin
        self._filters = filters
        self._service_labels = GlobSet(filters.service_labels)
        self._service_annotations = GlobSet(filters.service_annotations)
        self._node_labels = GlobSet(filters.node_labels)
        self._node_annotations = GlobSet(filters.node_annotations)

    def service(self, kube: KubeService) -> Outcome[Service]:
        """A Service; None for one that another proxy handles, or that has nothing to proxy."""
        metadata = kube.metadata
        faults = Faults(subject_of("Service", metadata), self.origin)
        service = None
        if self._filters.wants_service(metadata.labels) and check_identity(metadata, faults):
            service = service_fields(kube, faults, external_ips=self._filters.external_ips)
        if service is not None:
            labels = self._service_labels.select(metadata.labels)
            annotations = self._service_annotations.select(metadata.annotations)
            if labels or annotations:
                service = msgspec.structs.replace(service, labels=labels, annotations=annotations)
        return Outcome(faults.subject, service, faults.problems)

    def slice(self, kube: EndpointSlice) -> Outcome[NamedSource]:
        """The endpoints of an EndpointSlice."""
        metadata = kube.metadata
        faults = Faults(subject_of("EndpointSlice", metadata), self.origin)
        source = None
        if HEADLESS_LABEL not in (metadata.labels or {}) and check_identity(metadata, faults):
            source = slice_source(kube, faults)
        return Outcome(faults.subject, source, faults.problems)

    def node(self, kube: KubeNode) -> Outcome[Node]:
        """A Node."""
        metadata = kube.metadata
        faults = Faults(subject_of("Node", metadata, namespaced=False), self.origin)
        node = None
        if check_identity(metadata, faults, namespaced=False):
            node = msgspec.structs.replace(
                node_fields(kube, faults),
                labels=self._node_labels.select(metadata.labels),
                annotations=self._node_annotations.select(metadata.annotations),
            )
        return Outcome(faults.subject, node, faults.problems)

    def service_cidr(self, kube: ServiceCIDR) -> Outcome[tuple[str, ...]]:
        """The CIDRs of a ServiceCIDR."""
        faults = Faults(subject_of("ServiceCIDR", kube.metadata, namespaced=False), self.origin)
        cidrs = None
        if check_identity(kube.metadata, faults, namespaced=False):
            cidrs = service_cidrs(kube, faults)
        return Outcome(faults.subject, cidrs, faults.problems)
