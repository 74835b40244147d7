"""Statements: text and netlink form say the same, and no rule leaves the packet's mark changed."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from kpng.backends.nft import statements as s
from kpng.backends.nft.fields import (
    DPORT,
    L4PROTO,
    MARK,
    destination,
    key_text,
    load,
    random_index,
    registers,
    source,
)
from kpng.backends.nft.layout import KINDS, Layout, service_class
from kpng.backends.nft.options import Options
from kpng.backends.nft.ruleset import Chain, Rule
from kpng.host.netlink import attribute_map
from kpng.model import FAMILIES, PRIMARY, DetectLocalMode, Family

V4, V6 = FAMILIES
OPTIONS = Options(("10.0.0.0/8", "fd00::/8"), masquerade_all=True)
ALL_OPTIONS = [
    OPTIONS,
    Options(("10.0.0.0/8", "fd00::/8")),
    Options(detect_local_mode=DetectLocalMode.NODE_CIDR, node_port_addresses=PRIMARY),
    Options(detect_local_mode=DetectLocalMode.BRIDGE_INTERFACE, pod_interface="cni0"),
    Options(detect_local_mode=DetectLocalMode.INTERFACE_NAME_PREFIX, pod_interface="veth"),
]

TEXTS = [
    (s.StateNew(), "ct state new"),
    (s.StatusDnat(), "ct status dnat"),
    (s.ProtocolIs("udp", 17), "meta l4proto udp"),
    (s.DestinationIsLocal(), "fib daddr type local"),
    (s.NotLoopback(V4), "ip daddr != 127.0.0.0/8"),
    (s.NotLoopback(V6), "ip6 daddr != ::1"),
    (s.SourceIn("10.0.0.0/8", inverted=True), "ip saddr != 10.0.0.0/8"),
    (s.SourceIn("fd00::/8", inverted=True), "ip6 saddr != fd00::/8"),
    (s.SourceIn("10.0.0.0/8"), "ip saddr 10.0.0.0/8"),
    (s.SourceIn("fd00::/8"), "ip6 saddr fd00::/8"),
    (s.SourceIsLocal(), "fib saddr type local"),
    (s.InputInterface("cni0"), 'iifname "cni0"'),
    (s.InputInterface("veth*"), 'iifname "veth*"'),
    (s.InSet((destination(V4), DPORT), "x"), "ip daddr . th dport @x"),
    (s.InSet((source(V6),), "x", inverted=True), "ip6 saddr != @x"),
    (s.Return(), "return"),
    (s.Jump("there"), "jump there"),
    (s.Drop(), "drop"),
    (s.Reject(V4), "reject with icmp port-unreachable"),
    (s.Reject(V6), "reject with icmpv6 port-unreachable"),
    (s.Masquerade(), "masquerade fully-random"),
    (s.Remember((source(V6),), "x"), "update @x { ip6 saddr }"),
    (s.Dispatch((L4PROTO,), "a", "b"), "meta mark set meta l4proto map @a meta mark vmap @b"),
    (
        s.Forward(V6, (destination(V6), random_index(3)), "x"),
        "dnat ip6 to ip6 daddr . numgen random mod 3 map @x",
    ),
]


@pytest.mark.parametrize(("statement", "text"), TEXTS)
def test_text(statement: s.Statement, text: str) -> None:
    assert statement.text() == text
    assert statement.encode()


class Expression:
    """An encoded expression, read back."""

    def __init__(self, encoded: bytes) -> None:
        outer = attribute_map(attribute_map(encoded)[1])
        self.name = outer[1].rstrip(b"\0").decode()
        self.attributes = attribute_map(outer[2])

    def register(self, kind: int) -> int | None:
        """A register attribute, counted as ours (0 to 15); None if absent, below 0 for the verdict."""
        value = self.attributes.get(kind)
        return struct.unpack(">I", value)[0] - 8 if value is not None else None

    @property
    def sets_mark(self) -> int | None:
        """The register that the packet mark is set from."""
        return self.register(3) if self.name == "meta" and 1 not in self.attributes else None

    @property
    def reads_mark(self) -> int | None:
        """The register that the packet mark is read into."""
        is_mark = self.attributes.get(2) == struct.pack(">I", 3)
        return self.register(1) if self.name == "meta" and is_mark else None


def expressions(rule: Rule) -> list[Expression]:
    return [Expression(encoded) for statement in rule.statements for encoded in statement.encode()]


def all_chains(layout: Layout) -> Iterator[Chain]:
    yield from layout.table.chains
    for kind in KINDS:
        for number in (service_class(1), service_class(500), service_class(3, 10), service_class(1, 86400)):
            yield layout.class_chain(kind, number)


ALL_RULES = [
    pytest.param(rule, id=f"{family.name}-{place}-{chain.name}-{number}")
    for place, options in enumerate(ALL_OPTIONS)
    for family in FAMILIES
    for chain in all_chains(Layout(family, options))
    for number, rule in enumerate(chain.rules)
]


@pytest.mark.parametrize("rule", ALL_RULES)
def test_every_rule_leaves_the_mark_as_it_was(rule: Rule) -> None:
    """The mark is saved before it is borrowed, and put back before anything can end the rule: a lookup that
    misses, an update of a full set."""
    saved: int | None = None
    borrowed = False
    for expression in expressions(rule):
        if expression.sets_mark is not None:
            assert saved is not None, "borrowed before it was saved"
            borrowed = expression.sets_mark != saved
        elif expression.reads_mark is not None:
            saved = saved if borrowed else expression.reads_mark
        else:
            assert not borrowed, f"{expression.name} may end the rule while the mark is borrowed"
    assert not borrowed


@pytest.mark.parametrize("rule", ALL_RULES)
def test_registers_are_written_before_they_are_read_and_exist(rule: Rule) -> None:
    written: set[int] = set()
    reads = {"cmp": 1, "bitwise": 1, "lookup": 2, "nat": 3, "dynset": 4}
    writes = {"payload": 1, "meta": 1, "ct": 1, "fib": 1, "numgen": 1, "immediate": 1, "lookup": 3, "bitwise": 2}
    for expression in expressions(rule):
        read = expression.sets_mark
        if read is None and expression.name in reads:
            read = expression.register(reads[expression.name])
        assert read is None or read in written
        target = expression.register(writes.get(expression.name, -1))
        if target is not None and target >= 0:
            assert target <= 15
            written.add(target)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_key_runs_into_what_is_kept(family: Family) -> None:
    """Sixteen registers: the largest key from 0, the clients' key from 8, the chosen endpoint, the saved mark."""
    layout = Layout(family, OPTIONS)
    largest = max(registers((*layout.keys[kind], random_index(2))) for kind in KINDS)
    assert largest <= s._CLIENT
    assert s._CLIENT + registers((layout.saddr, MARK)) <= s._CHOSEN < s._SAVED == 15


@pytest.mark.parametrize("options", ALL_OPTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_sets_that_rules_name_exist(family: Family, options: Options) -> None:
    layout = Layout(family, options)
    for chain in all_chains(layout):
        for rule in chain.rules:
            for expression in expressions(rule):
                if expression.name in {"lookup", "dynset"}:
                    assert expression.attributes[1].rstrip(b"\0").decode() in layout.sets


@pytest.mark.parametrize("options", ALL_OPTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_chains_that_rules_jump_to_come_first(family: Family, options: Options) -> None:
    """nft wants it so, and the kernel too."""
    seen: set[str] = set()
    for chain in Layout(family, options).table.chains:
        for rule in chain.rules:
            targets = {found.chain for found in rule.statements if isinstance(found, s.Jump)}
            assert targets <= seen
        seen.add(chain.name)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_nat_hook_is_there_twice(family: Family) -> None:
    """The trap: a packet between class and endpoint when a change comes. The second chain must be a base chain
    of its own, which reads the generation anew, and come right after the first."""
    chains = {chain.name: chain for chain in Layout(family, OPTIONS).table.chains}
    nat = {name: chain for name, chain in chains.items() if chain.base and chain.base.kind == "nat"}
    assert len(nat) == 6
    for name, chain in nat.items():
        assert chain.base
        if not name.endswith("_again"):
            again = nat[f"{name}_again"]
            assert again.base == replace(chain.base, priority=chain.base.priority + 1)
            assert again.rules == chain.rules


def test_keys() -> None:
    key = (destination(V6), L4PROTO, DPORT)
    assert key_text(key) == "ip6 daddr . meta l4proto . th dport"
    assert registers(key) == 6
    assert [Expression(encoded).register(1) for encoded in load(key, 2)] == [2, 6, 7]


@pytest.mark.parametrize("offset", [-99, -1, 50, 199])
def test_the_firewall_is_between_conntrack_and_dnat(offset: int) -> None:
    """Both of which have their place in the kernel, whatever the priorities of chains."""
    table = Layout(V4, Options(hook_priority=offset)).table
    early = [chain.base.priority for chain in table.chains if chain.base and chain.name in EARLY]
    assert len(early) == 2
    assert all(-200 < priority < -100 for priority in early)


EARLY = {"filter_prerouting", "filter_output_early"}


def test_hook_priority_moves_all_hooks() -> None:
    def priorities(offset: int) -> dict[str, int]:
        table = Layout(V4, Options(hook_priority=offset)).table
        return {chain.name: chain.base.priority for chain in table.chains if chain.base}

    plain = priorities(0)
    assert plain["nat_prerouting"] == -100
    assert plain["filter_output"] == 0
    assert plain["nat_postrouting"] == 100
    assert priorities(7) == {name: value + 7 for name, value in plain.items()}
