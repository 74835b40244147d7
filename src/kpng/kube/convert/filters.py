"""Which objects count, and which of their labels and annotations are kept."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from kpng.kube.objects import StringMap
from kpng.model import ZONE_LABEL

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
SERVICE_PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
DEFAULT_NODE_LABELS = ("kubernetes.io/hostname", ZONE_LABEL, "topology.kubernetes.io/region")

_BRACES = re.compile(r"\{([^{}]*)\}")


class GlobSet:
    """Keys that match any of some globs: ``*`` (also across slashes), ``?``, ``[a-z]``, ``[!a-z]``, ``{a,b}``."""

    def __init__(self, globs: Iterable[str]) -> None:
        patterns = [fnmatch.translate(simple) for glob in globs for simple in _expand_braces(glob)]
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def select(self, values: StringMap) -> Mapping[str, str]:
        """The entries whose keys match."""
        match = self._pattern and self._pattern.match
        if not match or not values:
            return {}
        return {key: value or "" for key, value in values.items() if match(key)}


def _expand_braces(glob: str) -> Iterable[str]:
    """``a{b,c}`` is ``ab`` and ``ac``; the innermost braces first."""
    braces = _BRACES.search(glob)
    if not braces:
        yield glob
        return
    for choice in braces[1].split(","):
        yield from _expand_braces(glob[: braces.start()] + choice + glob[braces.end() :])


class Filters(Struct, frozen=True):
    """What the user asked for. The globs select what of labels and annotations is kept (none: nothing).

    ``service_proxy_name``: only Services whose label of that name has this value; "": only those without it.
    ``node``: only this Node, which is all that one node needs; of thousands each tells something all the time.
    ``external_ips``: whether spec.externalIPs count (KEP-5707; whoever may edit a Service may claim any address).
    """

    service_proxy_name: str = ""
    node: str = ""
    external_ips: bool = True
    service_labels: tuple[str, ...] = ()
    service_annotations: tuple[str, ...] = ()
    node_labels: tuple[str, ...] = DEFAULT_NODE_LABELS
    node_annotations: tuple[str, ...] = ()

    @property
    def service_selector(self) -> str:
        """The label selector that lets the API server filter Services as `wants_service` does."""
        name = self.service_proxy_name
        return f"{SERVICE_PROXY_NAME_LABEL}={name}" if name else f"!{SERVICE_PROXY_NAME_LABEL}"

    @property
    def slice_selector(self) -> str:
        """The label selector for EndpointSlices."""
        return f"!{HEADLESS_LABEL}"

    @property
    def node_field_selector(self) -> str:
        return f"metadata.name={self.node}" if self.node else ""

    def wants_service(self, labels: StringMap) -> bool:
        """Whether a Service with these labels is ours; an empty label value still is the label."""
        labels = labels or {}
        if self.service_proxy_name:
            return labels.get(SERVICE_PROXY_NAME_LABEL) == self.service_proxy_name
        return SERVICE_PROXY_NAME_LABEL not in labels
