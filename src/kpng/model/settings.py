"""Settings of kube-proxy's that more than one room has to understand."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from .addresses import Family, family_of

PRIMARY = ("primary",)
"""As nodePortAddresses: the Node's own addresses as the cluster knows them, which may change."""


class DetectLocalMode(Enum):
    """How packets of pods are told from others (detectLocalMode)."""

    CLUSTER_CIDR = "ClusterCIDR"
    NODE_CIDR = "NodeCIDR"
    BRIDGE_INTERFACE = "BridgeInterface"
    INTERFACE_NAME_PREFIX = "InterfaceNamePrefix"


def of_family(cidrs: Iterable[str], family: Family) -> list[str]:
    """Those of one family, of canonical addresses or CIDRs."""
    return [cidr for cidr in cidrs if family_of(cidr) is family]
