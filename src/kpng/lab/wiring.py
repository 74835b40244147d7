"""From the plan to what each machine must be told: sysctls, and commands for ``ip -batch``. No I/O.

The fabric is a switch (a bridge) for nodes and control plane, and the router to the client outside. Like the
router of a data centre it knows the way to load-balancer addresses, but not to pods or cluster IPs. Nodes reach
each other's pods by routes to the other node's address; a pod hangs on its node by a veth of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .services import announcements
from .topology import CLIENT, CONTROL, FABRIC, Addresses, NodePlan, PodPlan, Topology

UPLINK = "eth0"
BRIDGE = "switch"
NODE_GATEWAY = Addresses("192.0.2.1", "2001:db8:2::1")
CLIENT_GATEWAY = Addresses("198.51.100.1", "2001:db8:51::1")
NODE_PREFIX = Addresses("24", "64")
HOST_PREFIX = Addresses("32", "128")

# Without duplicate address detection an IPv6 address is usable at once (else "tentative" for a second or two).
SYSCTLS = {
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/default/disable_ipv6": "0",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    # Else the kernel answers a burst to a service without endpoints with 6 errors, then one a second (icmp(7)).
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv6/icmp/ratelimit": "0",
}
FORWARDING = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/default/forwarding": "1",
}


@dataclass(frozen=True, slots=True)
class Cable:
    """A veth pair from ``machine`` (interface ``interface``) to the uplink of ``far``."""

    machine: str
    interface: str
    far: str


def cables(topology: Topology) -> tuple[Cable, ...]:
    """Every veth pair; the far end is always called `UPLINK`."""
    to_fabric = (CONTROL, CLIENT, *(node.name for node in topology.nodes))
    return (
        *(Cable(FABRIC, machine, machine) for machine in to_fabric),
        *(Cable(pod.node, pod.name, pod.name) for pod in topology.pods),
    )


def sysctls(topology: Topology, machine: str) -> dict[str, str]:
    """Path below /proc/sys -> value."""
    forwards = machine == FABRIC or any(node.name == machine for node in topology.nodes)
    return SYSCTLS | FORWARDING if forwards else dict(SYSCTLS)


def commands(topology: Topology, machine: str) -> list[str]:
    """What a machine tells its interfaces, one ``ip`` command a line, once all cables are plugged in."""
    return list(_commands(topology, machine))


def _commands(topology: Topology, machine: str) -> Iterator[str]:
    if machine == FABRIC:
        yield from _fabric(topology)
    elif machine == CONTROL:
        yield from _host(topology.control, NODE_GATEWAY)
    elif machine == CLIENT:
        yield from _host(topology.clients[0], CLIENT_GATEWAY)
        for addresses in topology.clients[1:]:
            yield from _addresses(UPLINK, addresses, NODE_PREFIX)
    elif any(node.name == machine for node in topology.nodes):
        yield from _node(topology, topology.node(machine))
    else:
        yield from _pod(topology, topology.pod(machine))


def _fabric(topology: Topology) -> Iterator[str]:
    # Snooping off: a bridge that learns multicast groups drops neighbour solicitations until it has.
    yield f"link add {BRIDGE} type bridge forward_delay 0 stp_state 0 mcast_snooping 0"
    yield f"link set {BRIDGE} up"
    for machine in (CONTROL, *(node.name for node in topology.nodes)):
        yield f"link set {machine} master {BRIDGE} up"
    yield from _addresses(BRIDGE, NODE_GATEWAY, NODE_PREFIX)
    yield f"link set {CLIENT} up"
    yield from _addresses(CLIENT, CLIENT_GATEWAY, NODE_PREFIX)
    for address, node_name in announcements(topology).items():
        via = topology.node(node_name).addresses
        yield f"route add {address} via {via.ipv6 if ':' in address else via.ipv4}"


def _host(addresses: Addresses, gateway: Addresses) -> Iterator[str]:
    yield f"link set {UPLINK} up"
    yield from _addresses(UPLINK, addresses, NODE_PREFIX)
    yield from (f"route add default via {address}" for address in gateway.both)


def _node(topology: Topology, node: NodePlan) -> Iterator[str]:
    yield from _host(node.addresses, NODE_GATEWAY)
    for other in topology.nodes:
        if other is not node:
            for cidr, via in zip(other.pod_cidrs.both, other.addresses.both, strict=True):
                yield f"route add {cidr} via {via}"
    for pod in topology.pods:
        if pod.node == node.name:
            yield f"link set {pod.name} up"
            yield from _addresses(pod.name, node.pod_gateways, HOST_PREFIX)
            yield from (f"route add {address} dev {pod.name}" for address in pod.addresses.both)


def _pod(topology: Topology, pod: PodPlan) -> Iterator[str]:
    gateways = topology.node(pod.node).pod_gateways.both
    yield f"link set {UPLINK} up"
    yield from _addresses(UPLINK, pod.addresses, HOST_PREFIX)
    yield from (f"route add {gateway} dev {UPLINK}" for gateway in gateways)
    yield from (f"route add default via {gateway} dev {UPLINK}" for gateway in gateways)


def _addresses(interface: str, addresses: Addresses, prefixes: Addresses) -> Iterator[str]:
    yield f"address add {addresses.ipv4}/{prefixes.ipv4} dev {interface}"
    yield f"address add {addresses.ipv6}/{prefixes.ipv6} dev {interface} nodad"
