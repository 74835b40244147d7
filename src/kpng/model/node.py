"""Nodes, as far as endpoint choice needs them."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

ZONE_LABEL = "topology.kubernetes.io/zone"


class Node(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """One Node. ``zone`` is "" where unknown."""

    name: str
    zone: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
