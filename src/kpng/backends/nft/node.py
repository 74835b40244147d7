"""From the Node to the elements that depend on it: they change when it changes, and no rule does."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from kpng.model import FAMILIES, PRIMARY, DetectLocalMode, Family, LocalNode, family_of

from .intervals import Interval, interval_keys, intervals, outside
from .options import Options
from .ruleset import Elements

SERVICE_CIDRS = "service_cidrs"
PODS = "pods"
NOT_PODS = "not_pods"
NODE_PORT_ADDRESSES = "nodeport_addresses"


def node_contents(node: LocalNode | None, options: Options) -> dict[Family, Elements]:
    """What is known of the Node, by family; None: nothing is."""
    return {family: _elements(node or LocalNode(name=""), family, options) for family in FAMILIES}


def _elements(node: LocalNode, family: Family, options: Options) -> Elements:
    found: dict[str, tuple[Interval, ...]] = {SERVICE_CIDRS: intervals(node.service_cidrs, family)}
    if options.detect_local_mode is DetectLocalMode.NODE_CIDR:
        pods = found[PODS] = intervals(node.pod_cidrs, family)
        found[NOT_PODS] = tuple(outside(pods, family)) if pods else ()  # unknown: nobody is masqueraded
    if options.restricts_node_ports(family):
        found[NODE_PORT_ADDRESSES] = intervals(_node_port_addresses(node, family, options), family)
    return {name: interval_keys(each) for name, each in found.items() if each}


def _node_port_addresses(node: LocalNode, family: Family, options: Options) -> tuple[str, ...]:
    """An address that is unknown is none; kube-proxy would then offer node ports at all."""
    if options.node_port_addresses == PRIMARY:
        return tuple(node.addresses.family(family))
    return tuple(options.node_port_cidrs(family))


def offering_node_ports(node: LocalNode | None, options: Options, own: Iterable[str]) -> list[str]:
    """At which of this machine's ``own`` addresses node ports are offered."""
    networks: dict[Family, list[IPv4Network | IPv6Network] | None] = {
        family: [ip_network(cidr) for cidr in _node_port_addresses(node or LocalNode(name=""), family, options)]
        if options.restricts_node_ports(family)
        else None
        for family in FAMILIES
    }

    def offers(address: str) -> bool:
        allowed = networks[family_of(address)]
        return allowed is None or any(ip_address(address) in network for network in allowed)

    return [address for address in own if offers(address)]


def node_problems(node: LocalNode | None, options: Options) -> list[tuple[str, str]]:
    """What is missing of the Node, as option and what that means."""
    found = []
    if options.node_port_addresses == PRIMARY and not (node and node.addresses):
        text = "primary: this node's addresses are not known; node ports are offered nowhere until they are"
        found.append(("--nodeport-addresses", text))
    if options.detect_local_mode is DetectLocalMode.NODE_CIDR and not (node and node.pod_cidrs):
        text = "NodeCIDR: this node's pod CIDRs are not known; nothing counts as a pod until they are"
        found.append(("--detect-local-mode", text))
    return found
