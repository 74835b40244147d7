"""How the node's backend was started, as far as it decides what becomes of packets."""

from __future__ import annotations

from msgspec import Struct

from kpng.model import DetectLocalMode


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
