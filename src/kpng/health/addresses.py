"""On which addresses node ports, and so health checks of Services, are served (semantics H1 to H3, L2)."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence

from kpng.model import FAMILIES, Family, IPSet, family_of

PRIMARY = "primary"
MATCH_ALL = {Family.IPV4: "0.0.0.0", Family.IPV6: "::"}

Addresses = Mapping[Family, tuple[str, ...]]


def listen_addresses(node_port_addresses: Sequence[str], node: IPSet, interfaces: Collection[str]) -> Addresses:
    """By family, the addresses to listen on.

    ``node_port_addresses`` are CIDRs, or `PRIMARY`, or nothing for all; ``node`` are the Node's own addresses,
    ``interfaces`` all of this machine, in canonical form. An address that no interface has is left out. `PRIMARY`
    means none in a family that the Node has no address in; kube-proxy takes all of them there (X12).
    """
    if PRIMARY in node_port_addresses:
        return {family: tuple(a for a in node.family(family) if a in interfaces) for family in FAMILIES}
    return {family: _of_family(family, node_port_addresses, interfaces) for family in FAMILIES}


def _of_family(family: Family, cidrs: Sequence[str], interfaces: Collection[str]) -> tuple[str, ...]:
    """Without CIDRs of its own, a family has all addresses (H3)."""
    networks = [ipaddress.ip_network(cidr) for cidr in cidrs if family_of(cidr) is family]
    if not networks or any(network.prefixlen == 0 for network in networks):
        return (MATCH_ALL[family],)
    own = (ipaddress.ip_address(address) for address in interfaces if family_of(address) is family)
    usable = (address for address in own if not address.is_link_local)
    return tuple(sorted(str(a) for a in usable if any(a in network for network in networks)))
