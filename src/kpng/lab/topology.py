"""The plan of the lab's network as plain data: machines, addresses, pods. Nothing here touches the system.

The addresses come from the ranges for documentation (RFC 5737, RFC 3849), from 10.0.0.0/8 and from fd00::/8,
so none of them can be confused with something real.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kpng.model import Family, UserError

DEFAULT_NAME = "lab"
MIN_NODES, MAX_NODES = 2, 3
CLUSTER_CIDRS = ("10.244.0.0/16", "fd00:10:244::/48")
CLIENT_COUNT = 16  # client addresses: 16 clients all landing on one of 3 endpoints by chance: 1 in 14 million
FABRIC = "fabric"
CONTROL = "control"
CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Addresses:
    """One IPv4 and one IPv6 address of the same thing."""

    ipv4: str
    ipv6: str

    def of(self, family: Family) -> str:
        return self.ipv4 if family is Family.IPV4 else self.ipv6

    @property
    def both(self) -> tuple[str, str]:
        return self.ipv4, self.ipv6


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A node: where it is, and the range its pods take their addresses from."""

    name: str
    number: int
    zone: str
    addresses: Addresses
    pod_cidrs: Addresses
    pod_gateways: Addresses


@dataclass(frozen=True, slots=True)
class PodPlan:
    """A pod: which node it runs on and which application it belongs to ("" for one that only sends)."""

    name: str
    app: str
    node: str
    addresses: Addresses


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything that has a place in the lab."""

    name: str
    nodes: tuple[NodePlan, ...]
    pods: tuple[PodPlan, ...]
    control: Addresses
    clients: tuple[Addresses, ...]

    def namespace(self, machine: str) -> str:
        """The network namespace of a machine (a node's or pod's name, `CONTROL`, `CLIENT` or `FABRIC`)."""
        return f"{prefix(self.name)}{machine}"

    def node(self, name: str) -> NodePlan:
        return next(node for node in self.nodes if node.name == name)

    def pod(self, name: str) -> PodPlan:
        return next(pod for pod in self.pods if pod.name == name)

    def pods_of(self, app: str) -> tuple[PodPlan, ...]:
        return tuple(pod for pod in self.pods if pod.app == app)

    @property
    def machines(self) -> tuple[str, ...]:
        """Every machine's name; each is a namespace of its own."""
        return (FABRIC, CONTROL, CLIENT, *(node.name for node in self.nodes), *(pod.name for pod in self.pods))

    @property
    def busy_node(self) -> NodePlan:
        """A node with endpoints of every service."""
        return self.nodes[0]

    @property
    def idle_node(self) -> NodePlan:
        """A node without any endpoint of the service ``web``."""
        return self.nodes[-1]


def prefix(name: str) -> str:
    """What the names of a lab's namespaces begin with. Raises `UserError` for a name that cannot be used."""
    if not re.fullmatch(r"[a-z0-9]{1,16}", name):
        raise UserError(f"lab name {name!r}: use 1 to 16 lower-case letters and digits")
    return f"kpng-{name}-"


def plan(name: str = DEFAULT_NAME, node_count: int = MAX_NODES) -> Topology:
    """Lay out a lab. Raises `UserError` for a name or a number of nodes that cannot be used."""
    prefix(name)
    if not MIN_NODES <= node_count <= MAX_NODES:
        raise UserError(f"--nodes {node_count}: the lab has {MIN_NODES} to {MAX_NODES} nodes")
    nodes = tuple(_node(number) for number in range(1, node_count + 1))
    return Topology(
        name=name,
        nodes=nodes,
        pods=tuple(_pods(nodes)),
        control=Addresses("192.0.2.10", "2001:db8:2::10"),
        clients=tuple(
            Addresses(f"198.51.100.{host}", f"2001:db8:51::{host:x}") for host in range(10, 10 + CLIENT_COUNT)
        ),
    )


def _node(number: int) -> NodePlan:
    return NodePlan(
        name=f"node{number}",
        number=number,
        zone="zone-a" if number == 1 else "zone-b",
        addresses=Addresses(f"192.0.2.{10 + number}", f"2001:db8:2::{10 + number}"),
        pod_cidrs=Addresses(f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64"),
        pod_gateways=Addresses(f"10.244.{number}.1", f"fd00:10:244:{number}::1"),
    )


def _pods(nodes: tuple[NodePlan, ...]) -> Iterable[PodPlan]:
    """``web`` runs everywhere but on the last node, ``shop`` on the first and the last."""
    web_nodes = [nodes[index % (len(nodes) - 1)] for index in range(3)]
    placed = [("web", index, node) for index, node in enumerate(web_nodes, start=1)]
    placed += [("shop", 1, nodes[0]), ("shop", 2, nodes[-1])]
    for host, (app, index, node) in enumerate(placed, start=11):
        yield PodPlan(f"{app}-{index}", app, node.name, _pod_addresses(node, host))
    yield PodPlan("caller", "", nodes[-1].name, _pod_addresses(nodes[-1], 99))


def _pod_addresses(node: NodePlan, host: int) -> Addresses:
    return Addresses(f"10.244.{node.number}.{host}", f"fd00:10:244:{node.number}::{host}")
