"""The layout: which sets, chains and rules a table has. Services and endpoints are elements, never rules.

There are two kinds of frontend, which differ only by their key: virtual IPs (address, protocol, port) and node
ports (protocol, port, at any address of this machine). Each kind has the same set of maps and class chains;
those of node ports are called ``nodeport_...``. Both are there a second time, as ``inside_...``, for frontends that
have other endpoints for what begins inside the cluster (short-circuit, see `kpng.model.Scopes`).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from kpng.host.nftables import Hook
from kpng.model import DetectLocalMode, Family

from . import detection, fields
from .fields import DPORT, L4PROTO, MARK, ORIGINAL_DPORT, Key, random_index
from .node import NODE_PORT_ADDRESSES, NOT_PODS, PODS, SERVICE_CIDRS
from .options import Options
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
    SourceIsLocal,
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
GUARDED = "guarded"
SOURCE_RANGES = "source_ranges"
VIP = ""
NODE_PORT = "nodeport_"
INSIDE = {VIP: "inside_", NODE_PORT: "inside_nodeport_"}
"""The kinds for what begins inside the cluster."""
KINDS = (VIP, NODE_PORT, *INSIDE.values())

_CLIENTS_SIZE = 1 << 20
_NODE_ADDRESSES_SIZE = 1 << 16
_NODE_ADDRESS_SECONDS = 3600

_COUNT_BITS = 14
MOST_STICKY_ENDPOINTS = (1 << _COUNT_BITS) - 1
LONGEST_AFFINITY_SECONDS = (1 << 17) - 1
_STICKY = 1 << 31


def service_class(count: int, affinity_seconds: int = 0) -> int:
    """The class of a service: its number of endpoints, and the affinity timeout if it has one."""
    if not affinity_seconds:
        return count
    return _STICKY | affinity_seconds << _COUNT_BITS | count


def nearby_classes(number: int, distance: int) -> list[int]:
    """The classes with so many endpoints less, and more, and the same affinity."""
    count = number & MOST_STICKY_ENDPOINTS if number >= _STICKY else number
    most = MOST_STICKY_ENDPOINTS if number >= _STICKY else _STICKY - 1
    return [number + by for by in (-distance, distance) if 1 <= count + by <= most]


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
        keys: dict[str, Key] = {VIP: (self.daddr, L4PROTO, DPORT), NODE_PORT: (L4PROTO, DPORT)}
        self.keys = {**keys, **{INSIDE[kind]: key for kind, key in keys.items()}}
        self.sets: dict[str, Set] = {found.name: found for found in self._sets()}
        self.table = Table(family, tuple(self.sets.values()), tuple(self._chains()))

    def class_chain(self, kind: str, number: int) -> Chain:
        """The chain that forwards connections to services of a class."""
        rules = self._sticky_rules(kind, number) if number >= _STICKY else (self._forward(kind, number),)
        if self.keys[kind] == self.keys[NODE_PORT]:
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
        others = replace(maps, services=f"{kind}affinity_others")
        return (
            Rule((ForwardAgain(maps, seconds),), "where the client was before"),
            Rule((ForwardAgain(others, seconds),), "where it was by the other traffic policy"),
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
            Set(GUARDED, self.keys[VIP], comment="not for everybody, see source_ranges"),
            Set(
                SOURCE_RANGES,
                (*self.keys[VIP], self.saddr),
                interval=True,
                comment="load-balancer frontend, who may use it",
            ),
            Set(SERVICE_CIDRS, (self.daddr,), interval=True, comment="nothing but services is in these"),
            *self._sets_of_node(),
        ]
        for kind in KINDS:
            sets += self._sets_of(kind)
        return sets

    def _sets_of_node(self) -> Iterator[Set]:
        """Sets that only some options need."""
        if self.options.detect_local_mode is DetectLocalMode.NODE_CIDR:
            yield Set(PODS, (self.saddr,), interval=True, comment="pod CIDRs of this node")
            yield Set(NOT_PODS, (self.saddr,), interval=True, comment="all others, if these are known")
        if self.options.restricts_node_ports(self.family):
            yield Set(NODE_PORT_ADDRESSES, (self.daddr,), interval=True, comment="where node ports are offered")

    def _sets_of(self, kind: str) -> list[Set]:
        key, index = self.keys[kind], random_index()
        unreachable = [
            Set(f"{kind}rejected", key, comment="no endpoint anywhere"),
            Set(f"{kind}dropped", key, comment="no endpoint on this node, and the traffic policy is Local"),
        ]
        return [
            Set(f"{kind}services", key, (MARK,), comment="frontend: class (number of endpoints, affinity)"),
            Set(f"{kind}classes", (MARK,), verdicts=True),
            Set(f"{kind}endpoints", (*key, index), self.endpoint),
            Set(f"{kind}affinity_services", key, (MARK,), comment="frontend: number of its service port"),
            Set(f"{kind}affinity_others", key, (MARK,), comment="the same of the other traffic policy"),
            Set(f"{kind}affinity_numbers", (*key, index), (MARK,), comment="number of an endpoint"),
            Set(f"{kind}affinity_endpoints", (*key, MARK), self.endpoint),
            *([] if kind in INSIDE.values() else unreachable),
            Set(f"{kind}masqueraded", key),
        ]

    def _chains(self) -> list[Chain]:
        of_node = Rule((SourceIsLocal(), Jump("services_inside")))
        return [
            Chain("firewall", self._firewall_rules()),
            Chain("services_inside", self._inside_rules()),
            Chain("services", self._service_rules()),
            Chain("masquerading_inside", self._masquerade_rules(*INSIDE.values())),
            Chain("masquerading", self._masquerading_rules()),
            Chain("unreachable", self._unreachable_rules(VIP)),
            Chain("nodeport_unreachable", self._unreachable_rules(NODE_PORT)),
            Chain("other_ports", self._other_port_rules()),
            self._early("filter_prerouting", Hook.PREROUTING, "firewall"),
            self._early("filter_output_early", Hook.OUTPUT, "firewall"),
            *self._nat("nat_prerouting", Hook.PREROUTING, -100, Rule((Jump("services"),))),
            *self._nat("nat_output", Hook.OUTPUT, -100, of_node, Rule((Jump("services"),))),
            *self._nat("nat_postrouting", Hook.POSTROUTING, 100, Rule((StatusDnat(), Jump("masquerading")))),
            self._filter("filter_input", Hook.INPUT, "nodeport_unreachable", "unreachable"),
            # After DNAT (-100): earlier, the node's own traffic to a cluster IP would be rejected.
            self._filter("filter_forward", Hook.FORWARD, "unreachable", "other_ports"),
            self._filter("filter_output", Hook.OUTPUT, "unreachable", "other_ports"),
        ]

    def _nat(self, name: str, hook: Hook, priority: int, *rules: Rule) -> Iterator[Chain]:
        """A base chain twice, the second for packets that the first has nothing for.

        A packet that meets a commit between two lookups (a set's generation is read by each, a chain's rules
        are read when a base chain begins) finds half of the old and half of the new; without its NAT the
        connection would stay so for good. The second base chain sees the new alone.
        """
        priority += self.options.hook_priority
        yield Chain(name, rules, Base("nat", hook, priority))
        yield Chain(f"{name}_again", rules, Base("nat", hook, priority + 1))

    def _filter(self, name: str, hook: Hook, *targets: str) -> Chain:
        rules = tuple(Rule((StateNew(), Jump(target))) for target in targets)
        return Chain(name, rules, Base("filter", hook, self.options.hook_priority))

    def _early(self, name: str, hook: Hook, target: str) -> Chain:
        """After conntrack (-200) and before DNAT, which is at -100 whatever the priorities of nat chains are: these
        only say in which order they are asked (nf_nat_register_fn)."""
        priority = min(max(-199, -110 + self.options.hook_priority), -101)
        return Chain(name, (Rule((StateNew(), Jump(target))),), Base("filter", hook, priority))

    def _firewall_rules(self) -> tuple[Rule, ...]:
        key = self.keys[VIP]
        allowed = InSet((*key, self.saddr), SOURCE_RANGES, inverted=True)
        return (Rule((InSet(key, GUARDED), allowed, Drop())),)

    def _at_node_port_address(self) -> tuple[Statement, ...]:
        """The packet goes to an address where node ports are offered, if it goes to this node at all."""
        if self.options.restricts_node_ports(self.family):
            return NotLoopback(self.family), InSet((self.daddr,), NODE_PORT_ADDRESSES)
        return (NotLoopback(self.family),)

    def _dispatch(self, kind: str) -> Rule:
        dispatch = Dispatch(self.keys[kind], f"{kind}services", f"{kind}classes")
        if self.keys[kind] == self.keys[NODE_PORT]:
            return Rule((DestinationIsLocal(), *self._at_node_port_address(), dispatch))
        return Rule((dispatch,))

    def _service_rules(self) -> tuple[Rule, ...]:
        pod = detection.from_pod(self.options, self.family)
        inside = (Rule((*pod, Jump("services_inside"))),) if pod else ()
        return (*inside, self._dispatch(VIP), self._dispatch(NODE_PORT))

    def _inside_rules(self) -> tuple[Rule, ...]:
        """Any virtual IP comes before a node port of the same number."""
        return self._dispatch(INSIDE[VIP]), self._dispatch(VIP), self._dispatch(INSIDE[NODE_PORT])

    def _unreachable_rules(self, kind: str) -> tuple[Rule, ...]:
        here = self._at_node_port_address() if kind == NODE_PORT else ()
        key = self.keys[kind]
        return (
            Rule((*here, InSet(key, f"{kind}rejected"), Reject(self.family))),
            Rule((*here, InSet(key, f"{kind}dropped"), Drop())),
        )

    def _other_port_rules(self) -> tuple[Rule, ...]:
        return (
            Rule((InSet((self.daddr,), CLUSTER_IPS), Reject(self.family))),
            Rule((InSet((self.daddr,), SERVICE_CIDRS), Drop())),
        )

    def _masquerading_rules(self) -> tuple[Rule, ...]:
        """Short-circuited connections are masqueraded if they are the node's own: the answer to an address of the
        node would otherwise not pass here where the endpoint is elsewhere."""
        options, family = self.options, self.family
        cluster_ip = InSet((fields.original_destination(family),), CLUSTER_IPS)
        of_node = (SourceIsLocal(), *detection.not_of_pod(options, family))
        return (
            Rule((InSet((self.saddr, self.daddr), HAIRPIN), Masquerade())),
            *(() if options.masquerade_all else detection.masquerade_rules(options, family, cluster_ip)),
            Rule((*of_node, Jump("masquerading_inside"))),
            *self._masquerade_rules(VIP, NODE_PORT),
        )

    def _masquerade_rules(self, vip: str, node_port: str) -> tuple[Rule, ...]:
        """What was DNATed is known by the connection's original destination, so no mark has to survive."""
        address = fields.original_destination(self.family)
        port: Key = (L4PROTO, ORIGINAL_DPORT)
        node = InSet((address,), NODE_ADDRESSES)
        rules = []
        for name, number in PROTOCOLS:
            protocol = ProtocolIs(name, number)
            rules.append(Rule((protocol, InSet((address, *port), f"{vip}masqueraded"), Masquerade())))
            rules.append(Rule((protocol, node, InSet(port, f"{node_port}masqueraded"), Masquerade())))
        return tuple(rules)
