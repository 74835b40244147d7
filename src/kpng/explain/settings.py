"""How the node's backend was started, as far as it decides what becomes of packets."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from msgspec import Struct

from kpng.model import Family, family_of

PRIMARY = ("primary",)
"""Node ports are offered at the Node's own addresses, as the cluster knows them."""


class DetectLocalMode(Enum):
    """How packets of pods are told from others (kube-proxy's detectLocalMode)."""

    CLUSTER_CIDR = "ClusterCIDR"
    NODE_CIDR = "NodeCIDR"
    BRIDGE_INTERFACE = "BridgeInterface"
    INTERFACE_NAME_PREFIX = "InterfaceNamePrefix"


class Settings(Struct, frozen=True):
    """``cluster_cidrs``: at most one of each family. ``pod_interface``: a bridge's name, or a prefix of names.
    ``node_port_addresses``: CIDRs, or `PRIMARY`; empty: all addresses of the node. ``localhost_node_ports``: the
    backend itself listens for TCP at 127.0.0.1 and ::1 (KEP-6032)."""

    detect_local_mode: DetectLocalMode = DetectLocalMode.CLUSTER_CIDR
    cluster_cidrs: tuple[str, ...] = ()
    pod_interface: str = ""
    masquerade_all: bool = False
    node_port_addresses: tuple[str, ...] = ()
    localhost_node_ports: bool = False

    @property
    def by_interface(self) -> bool:
        """Whether pods are told by the interface that their packets come in by."""
        return self.detect_local_mode in _BY_INTERFACE


_BY_INTERFACE = (DetectLocalMode.BRIDGE_INTERFACE, DetectLocalMode.INTERFACE_NAME_PREFIX)


def of_family(cidrs: Sequence[str], family: Family) -> list[str]:
    return [cidr for cidr in cidrs if family_of(cidr) is family]
