"""What is known of the node, and of the cluster around it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network

from msgspec import Struct

from kpng.model import EndpointInfo, LocalNode, LocalService, ServiceKey, family_of

from .settings import Settings


class ClusterState(Struct, frozen=True):
    """Of the global state what tells why endpoints were chosen. ``zone``: the node's, "" where unknown."""

    endpoints: Mapping[ServiceKey, Sequence[EndpointInfo]]
    zone: str = ""


class NodeState(Struct, frozen=True):
    """What decides at one node. ``addresses``: those of its interfaces, as far as they are known; those in ``node``
    are its own in any case. ``cluster`` is None where only local state is known."""

    node: LocalNode
    services: Mapping[ServiceKey, LocalService]
    settings: Settings = Settings()
    addresses: frozenset[str] = frozenset()
    cluster: ClusterState | None = None

    def owns(self, address: str) -> bool:
        """Whether the node itself has this address, be it on its loopback interface."""
        return address in self.addresses or address in self.node.addresses.all() or is_loopback(address)


def is_loopback(address: str) -> bool:
    return ip_address(address).is_loopback


def first_containing(cidrs: Iterable[str], address: str) -> str:
    """The first of the CIDRs that holds the address; "" if none does."""
    parsed, family = ip_address(address), family_of(address)
    return next((cidr for cidr in cidrs if family_of(cidr) is family and parsed in ip_network(cidr)), "")
