"""The layout: which sets, chains and rules a table has. Services and endpoints are elements, never rules.

There are two kinds of frontend, which differ only by their key: virtual IPs (address, protocol, port) and node
ports (protocol, port, at any address of this machine). Each kind has the same set of maps and class chains;
those of node ports are called ``nodeport_...``.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from kpng.host.nftables import Hook
from kpng.model import Family

from . import fields
from .fields import DPORT, L4PROTO, MARK, ORIGINAL_DPORT, Key, random_index
from .ruleset import Base, Chain, Rule, Set, Table
from .statements import (
    AffinityMaps,
    DestinationIsLocal,
    Dispatch,
    Drop,
    ForgetClient,
    Forward,
    ForwardAgain,
    ForwardAnew,
    InSet,
    Jump,
    Masquerade,
    NotLoopback,
    ProtocolIs,
    Reject,
    Remember,
    SourceOutside,
    Statement,
    StateNew,
    StatusDnat,
)

PROTOCOLS = (("tcp", 6), ("udp", 17), ("sctp", 132))
STATE = "state"
CLIENTS = "affinity_clients"
NODE_ADDRESSES = "node_addresses"
CLUSTER_IPS = "cluster_ips"
HAIRPIN = "hairpin"
VIP = ""
NODE_PORT = "nodeport_"
KINDS = (VIP, NODE_PORT)

_CLIENTS_SIZE = 1 << 20
_NODE_ADDRESSES_SIZE = 1 << 16
_NODE_ADDRESS_SECONDS = 3600

_COUNT_BITS = 14
MOST_STICKY_ENDPOINTS = (1 << _COUNT_BITS) - 1
LONGEST_AFFINITY_SECONDS = (1 << 17) - 1
_STICKY = 1 << 31


class Options(Struct, frozen=True):
    """What the user chose. ``cluster_cidrs``: at most one of each family."""

    cluster_cidrs: tuple[str, ...] = ()
    masquerade_all: bool = False
    hook_priority: int = 0

    def cluster_cidr(self, family: Family) -> str:
        return next((cidr for cidr in self.cluster_cidrs if (":" in cidr) == (family is Family.IPV6)), "")


def service_class(count: int, affinity_seconds: int = 0) -> int:
    """The class of a service: its number of endpoints, and the affinity timeout if it has one."""
    if not affinity_seconds:
        return count
    return _STICKY | affinity_seconds << _COUNT_BITS | count


def class_name(kind: str, number: int) -> str:
    """The name of a class's chain."""
    if number < _STICKY:
        return f"{kind}count_{number}"
    seconds, count = number >> _COUNT_BITS & LONGEST_AFFINITY_SECONDS, number & MOST_STICKY_ENDPOINTS
    return f"{kind}affinity_{seconds}s_{count}"


class Layout:
    """The layout of one family's table."""

    def __init__(self, family: Family, options: Options) -> None:
        self.family = family
        self.options = options
        self.daddr = fields.destination(family)
        self.saddr = fields.source(family)
        self.endpoint: Key = (self.daddr, DPORT)
        self.keys: dict[str, Key] = {VIP: (self.daddr, L4PROTO, DPORT), NODE_PORT: (L4PROTO, DPORT)}
        self.sets: dict[str, Set] = {found.name: found for found in self._sets()}
        self.table = Table(family, tuple(self.sets.values()), tuple(self._chains()))

    def class_chain(self, kind: str, number: int) -> Chain:
        """The chain that forwards connections to services of a class."""
        rules = self._sticky_rules(kind, number) if number >= _STICKY else (self._forward(kind, number),)
        if kind == NODE_PORT:
            note = Rule((Remember((self.daddr,), NODE_ADDRESSES),), "for masquerading, which comes after DNAT")
            rules = (note, *rules)
        return Chain(class_name(kind, number), rules)

    def _forward(self, kind: str, count: int) -> Rule:
        return Rule((Forward(self.family, (*self.keys[kind], random_index(count)), f"{kind}endpoints"),))

    def _sticky_rules(self, kind: str, number: int) -> tuple[Rule, ...]:
        seconds = number >> _COUNT_BITS & LONGEST_AFFINITY_SECONDS
        index: Key = (random_index(number & MOST_STICKY_ENDPOINTS),)
        maps = AffinityMaps(
            self.family,
            self.keys[kind],
            f"{kind}affinity_services",
            CLIENTS,
            f"{kind}affinity_numbers",
            f"{kind}affinity_endpoints",
        )
        return (
            Rule((ForwardAgain(maps, seconds),), "where the client was before"),
            Rule((ForgetClient(maps),), "that endpoint is gone"),
            Rule((ForwardAnew(maps, index, seconds),), "anywhere, and remember"),
            Rule((ForwardAnew(maps, index),), "the map of clients is full"),
        )

    def _sets(self) -> list[Set]:
        sets = [
            Set(STATE, (MARK,), comment="what this table holds, as a fingerprint"),
            Set(CLUSTER_IPS, (self.daddr,), comment="other ports of these are rejected"),
            Set(HAIRPIN, (self.saddr, self.daddr), comment="endpoints of this node that reach themselves"),
            Set(
                CLIENTS,
                (self.saddr, MARK),
                (MARK,),
                dynamic=True,
                size=_CLIENTS_SIZE,
                comment="client, service: number of its endpoint",
            ),
            Set(
                NODE_ADDRESSES,
                (self.daddr,),
                dynamic=True,
                size=_NODE_ADDRESSES_SIZE,
                timeout_seconds=_NODE_ADDRESS_SECONDS,
                comment="addresses of this node at which node ports were used",
            ),
        ]
        for kind in KINDS:
            sets += self._sets_of(kind)
        return sets

    def _sets_of(self, kind: str) -> list[Set]:
        key, index = self.keys[kind], random_index()
        return [
            Set(f"{kind}services", key, (MARK,), comment="frontend: class (number of endpoints, affinity)"),
            Set(f"{kind}classes", (MARK,), verdicts=True),
            Set(f"{kind}endpoints", (*key, index), self.endpoint),
            Set(f"{kind}affinity_services", key, (MARK,), comment="frontend: number of its service port"),
            Set(f"{kind}affinity_numbers", (*key, index), (MARK,), comment="number of an endpoint"),
            Set(f"{kind}affinity_endpoints", (*key, MARK), self.endpoint),
            Set(f"{kind}rejected", key, comment="no endpoint anywhere"),
            Set(f"{kind}dropped", key, comment="no endpoint on this node, and the traffic policy is Local"),
            Set(f"{kind}masqueraded", key),
        ]

    def _chains(self) -> list[Chain]:
        return [
            Chain("services", self._service_rules()),
            Chain("masquerading", self._masquerade_rules()),
            Chain("unreachable", self._unreachable_rules(VIP)),
            Chain("nodeport_unreachable", self._unreachable_rules(NODE_PORT)),
            Chain("other_ports", (Rule((InSet((self.daddr,), CLUSTER_IPS), Reject(self.family))),)),
            *self._nat("nat_prerouting", Hook.PREROUTING, -100, Jump("services")),
            *self._nat("nat_output", Hook.OUTPUT, -100, Jump("services")),
            *self._nat("nat_postrouting", Hook.POSTROUTING, 100, StatusDnat(), Jump("masquerading")),
            self._filter("filter_input", Hook.INPUT, "nodeport_unreachable", "unreachable"),
            # After DNAT (-100): earlier, the node's own traffic to a cluster IP would be rejected.
            self._filter("filter_forward", Hook.FORWARD, "unreachable", "other_ports"),
            self._filter("filter_output", Hook.OUTPUT, "unreachable", "other_ports"),
        ]

    def _nat(self, name: str, hook: Hook, priority: int, *statements: Statement) -> Iterator[Chain]:
        """A base chain twice, the second for packets that the first has nothing for.

        A packet that meets a commit between two lookups (a set's generation is read by each, a chain's rules
        are read when a base chain begins) finds half of the old and half of the new; without its NAT the
        connection would stay so for good. The second base chain sees the new alone.
        """
        priority += self.options.hook_priority
        yield Chain(name, (Rule(statements),), Base("nat", hook, priority))
        yield Chain(f"{name}_again", (Rule(statements),), Base("nat", hook, priority + 1))

    def _filter(self, name: str, hook: Hook, *targets: str) -> Chain:
        rules = tuple(Rule((StateNew(), Jump(target))) for target in targets)
        return Chain(name, rules, Base("filter", hook, self.options.hook_priority))

    def _service_rules(self) -> tuple[Rule, ...]:
        here = (DestinationIsLocal(), NotLoopback(self.family))
        return (
            Rule((Dispatch(self.keys[VIP], "services", "classes"),)),
            Rule((*here, Dispatch(self.keys[NODE_PORT], "nodeport_services", "nodeport_classes"))),
        )

    def _unreachable_rules(self, kind: str) -> tuple[Rule, ...]:
        here = (NotLoopback(self.family),) if kind == NODE_PORT else ()
        key = self.keys[kind]
        return (
            Rule((*here, InSet(key, f"{kind}rejected"), Reject(self.family))),
            Rule((*here, InSet(key, f"{kind}dropped"), Drop())),
        )

    def _masquerade_rules(self) -> tuple[Rule, ...]:
        """What was DNATed is known by the connection's original destination, so no mark has to survive."""
        address = fields.original_destination(self.family)
        masquerade = Masquerade()
        rules = [Rule((InSet((self.saddr, self.daddr), HAIRPIN), masquerade))]
        cidr = self.options.cluster_cidr(self.family)
        if cidr:
            rules.append(Rule((SourceOutside(cidr), InSet((address,), CLUSTER_IPS), masquerade)))
        port: Key = (L4PROTO, ORIGINAL_DPORT)
        node = InSet((address,), NODE_ADDRESSES)
        for name, number in PROTOCOLS:
            protocol = ProtocolIs(name, number)
            rules.append(Rule((protocol, InSet((address, *port), "masqueraded"), masquerade)))
            rules.append(Rule((protocol, node, InSet(port, "nodeport_masqueraded"), masquerade)))
        return tuple(rules)
