"""Kubernetes objects in any number, and what happens to them in a cluster that lives: for tests and benchmarks, and
behind ``kpng load``."""

from .bodies import list_body, watch_line, watch_lines
from .churn import KINDS, Change, Churn, Write
from .objects import (
    Object,
    Pod,
    State,
    endpoint_slices,
    namespaces,
    nodes,
    objects,
    service_object,
    services,
    slice_object,
)
from .served import as_served
from .shape import POD_CIDRS, Shape, Site, parse_shape

__all__ = [
    "KINDS",
    "POD_CIDRS",
    "Change",
    "Churn",
    "Object",
    "Pod",
    "Shape",
    "Site",
    "State",
    "Write",
    "as_served",
    "endpoint_slices",
    "list_body",
    "namespaces",
    "nodes",
    "objects",
    "parse_shape",
    "service_object",
    "services",
    "slice_object",
    "watch_line",
    "watch_lines",
]
