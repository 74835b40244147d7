"""Nodes: as the cluster has them (`Node`) and what one of them must know of itself (`LocalNode`)."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from .addresses import IPSet

ZONE_LABEL = "topology.kubernetes.io/zone"


class Node(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """One Node (global state). ``zone`` is "" where unknown.

    ``addresses``: at most one of each family, the first InternalIP or else the first ExternalIP. ``pod_cidrs``: the
    pods' addresses on it, as spec.podCIDRs. ``eligible``: load balancers may send to it; not so while it is being
    deleted, or about to be by the autoscaler (KEP-3836).
    """

    name: str
    zone: str = ""
    addresses: IPSet = IPSet()
    pod_cidrs: tuple[str, ...] = ()
    eligible: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


class LocalNode(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A Node as it sees itself (local state), and what is the same on all of them.

    ``service_cidrs``: where the cluster's IPs of Services come from (ServiceCIDR objects), sorted; empty where
    unknown. The rest is as in `Node`; a Node that does not exist has no addresses and is not ``eligible``.
    """

    name: str
    addresses: IPSet = IPSet()
    pod_cidrs: tuple[str, ...] = ()
    service_cidrs: tuple[str, ...] = ()
    eligible: bool = False
