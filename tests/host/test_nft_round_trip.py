"""What we send and what nft sends for the same words are the same to the kernel, and nft reads ours back.

The kernel dumps a rule's expressions in a form of its own, so what nft loaded and what we sent can be compared byte
for byte; sets, chains and elements are read back by ``nft -j list``.
"""

from __future__ import annotations

import itertools
import json
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from kpng.host.nftables import Family, Hook, Nftables, SetFlag, TableFlag, elements, messages, typeof
from kpng.host.nftables import expressions as ex
from kpng.host.nftables.messages import Kind
from kpng.lab.netns import Namespace

pytestmark = pytest.mark.netns
_numbers = itertools.count()

V4, V6 = Family.IPV4, Family.IPV6
NETWORK, TRANSPORT = ex.Base.NETWORK, ex.Base.TRANSPORT

SETS = """
    set s { type ipv4_addr; }
    set s6 { type ipv6_addr; }
    set i { type ipv4_addr; flags interval; }
    set k { type ipv4_addr . inet_proto . inet_service; }
    set d { type ipv4_addr; flags dynamic,timeout; size 100; timeout 1h; }
    map v { type mark : verdict; }
    map e { typeof ip daddr . meta l4proto . th dport . numgen random mod 65536 : ip daddr . th dport; }
    chain there { }
"""


def daddr(register: int = 0) -> bytes:
    return ex.payload(register, NETWORK, 16, 4)


def daddr6(register: int = 0) -> bytes:
    return ex.payload(register, NETWORK, 24, 16)


def frontend() -> list[bytes]:
    return [daddr(0), ex.meta(1, ex.Meta.L4PROTO), ex.payload(2, TRANSPORT, 2, 2)]


def bits(read: bytes, bit: int) -> list[bytes]:
    return [read, ex.mask(0, struct.pack("=I", bit)), ex.compare(0, ex.Compare.NOT_EQUAL, bytes(4))]


RULES: list[tuple[Family, str, list[bytes]]] = [
    (V4, "ip daddr @s", [daddr(), ex.in_set("s", 0)]),
    (V4, "ip daddr != @s drop", [daddr(), ex.in_set("s", 0, inverted=True), ex.verdict(ex.Verdict.DROP)]),
    (V6, "ip6 daddr @s6 accept", [daddr6(), ex.in_set("s6", 0), ex.verdict(ex.Verdict.ACCEPT)]),
    (V4, "ip daddr . meta l4proto . th dport @k", [*frontend(), ex.in_set("k", 0)]),
    (V4, "ct state new", bits(ex.ct(0, ex.Ct.STATE), ex.CT_STATE_NEW)),
    (V4, "ct status dnat", bits(ex.ct(0, ex.Ct.STATUS), ex.CT_STATUS_DNAT)),
    (V4, "meta l4proto udp", [ex.meta(0, ex.Meta.L4PROTO), ex.compare(0, ex.Compare.EQUAL, b"\x11")]),
    (
        V4,
        "fib daddr type local",
        [ex.fib_daddr_type(0), ex.compare(0, ex.Compare.EQUAL, struct.pack("=I", ex.ADDRESS_TYPE_LOCAL))],
    ),
    (
        V4,
        "fib saddr type local",
        [ex.fib_saddr_type(0), ex.compare(0, ex.Compare.EQUAL, struct.pack("=I", ex.ADDRESS_TYPE_LOCAL))],
    ),
    (
        V4,
        'iifname "cni0"',
        [ex.meta(0, ex.Meta.INPUT_NAME), ex.compare(0, ex.Compare.EQUAL, b"cni0".ljust(16, b"\0"))],
    ),
    (V4, 'iifname "veth*"', [ex.meta(0, ex.Meta.INPUT_NAME), ex.compare(0, ex.Compare.EQUAL, b"veth")]),
    (V4, "ip daddr @i", [daddr(), ex.in_set("i", 0)]),
    (
        V4,
        "ip daddr != 127.0.0.0/8",
        [ex.payload(0, NETWORK, 16, 1), ex.compare(0, ex.Compare.NOT_EQUAL, b"\x7f")],
    ),
    (V6, "ip6 daddr != ::1", [daddr6(), ex.compare(0, ex.Compare.NOT_EQUAL, bytes(15) + b"\1")]),
    (
        V4,
        "ip saddr != 10.64.0.0/12",
        [
            ex.payload(0, NETWORK, 12, 4),
            ex.mask(0, b"\xff\xf0\0\0"),
            ex.compare(0, ex.Compare.NOT_EQUAL, b"\x0a\x40\0\0"),
        ],
    ),
    (V4, "ct original ip daddr @s", [ex.ct_original(0, ex.Ct.DST_IP), ex.in_set("s", 0)]),
    (V6, "ct original ip6 daddr @s6", [ex.ct_original(0, ex.Ct.DST_IP6), ex.in_set("s6", 0)]),
    (V4, "jump there", [ex.verdict(ex.Verdict.JUMP, "there")]),
    (V4, "goto there", [ex.verdict(ex.Verdict.GOTO, "there")]),
    (V4, "return", [ex.verdict(ex.Verdict.RETURN)]),
    (V4, "meta mark vmap @v", [ex.meta(0, ex.Meta.MARK), ex.lookup("v", 0, ex.VERDICT_REGISTER)]),
    (
        V4,
        "ip daddr . meta l4proto . th dport . numgen random mod 7 @e_keys",
        [*frontend(), ex.random_number(3, 7), ex.in_set("e_keys", 0)],
    ),
    (V4, "update @d { ip daddr }", [daddr(), ex.update_element("d", 0)]),
    (
        V4,
        "update @d { ip saddr timeout 90s }",
        [ex.payload(0, NETWORK, 12, 4), ex.update_element("d", 0, timeout_milliseconds=90_000)],
    ),
    (V4, "delete @d { ip daddr }", [daddr(), ex.delete_element("d", 0)]),
    (
        V4,
        "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 3 map @e",
        [*frontend(), ex.random_number(3, 3), ex.lookup("e", 0, 0), ex.dnat(V4, 0, 1)],
    ),
    (V4, "reject with icmp port-unreachable", [ex.reject_port_unreachable(3)]),
    (V6, "reject with icmpv6 port-unreachable", [ex.reject_port_unreachable(4)]),
]
NAT_RULES = [
    (V4, "masquerade fully-random", [ex.masquerade_fully_random()]),
    (V6, "masquerade fully-random", [ex.masquerade_fully_random()]),
]


class Kernel:
    def __init__(self, space: Namespace) -> None:
        self.space = space
        self.connection = space.call(Nftables)

    def load(self, text: str) -> None:
        self.space.run("nft", "-f", "-", stdin=text)

    def listed(self, *what: str) -> list[dict[str, Any]]:
        found: dict[str, Any] = json.loads(self.space.run("nft", "-j", "list", *what))
        return [entry for entry in found["nftables"] if "metainfo" not in entry]

    def expressions(self, family: Family) -> list[bytes]:
        """NFTA_RULE_EXPRESSIONS of each rule, in order, as the kernel dumps it."""
        return [found[4] for found in self.connection._objects(Kind.GET_RULE, family, "t")]


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Namespace(f"kpt-{os.getpid()}-words-{next(_numbers)}") as space:
        found = Kernel(space)
        yield found
        found.connection.close()


@pytest.fixture(autouse=True)
def empty(kernel: Kernel) -> None:
    kernel.space.run("nft", "flush", "ruleset")


def both_ways(kernel: Kernel, family: Family, chain: str, words: str, ours: list[bytes]) -> None:
    """Load words by nft, add ours behind, and compare what the kernel has of each."""
    name = "ip" if family is V4 else "ip6"
    keys = (
        "set e_keys { typeof ip daddr . meta l4proto . th dport . numgen random mod 65536; }"
        if family is V4
        else ""
    )
    sets = SETS if family is V4 else "\n".join(line for line in SETS.splitlines() if "daddr" not in line)
    kernel.load(f"table {name} t {{\n{sets}\n{keys}\nchain c {{ {chain}\n{words}\n}}\n}}\n")
    kernel.connection.commit([messages.new_rule(family, "t", "c", ours)])
    theirs, mine = kernel.expressions(family)
    assert mine.hex() == theirs.hex()


@pytest.mark.parametrize(("family", "words", "ours"), [pytest.param(*rule, id=rule[1]) for rule in RULES])
def test_rules(kernel: Kernel, family: Family, words: str, ours: list[bytes]) -> None:
    kind = "nat" if "dnat ip" in words else "filter"
    both_ways(kernel, family, f"type {kind} hook prerouting priority -100;", words, ours)


@pytest.mark.parametrize(("family", "words", "ours"), NAT_RULES)
def test_nat_rules(kernel: Kernel, family: Family, words: str, ours: list[bytes]) -> None:
    both_ways(kernel, family, "type nat hook postrouting priority 100;", words, ours)


@pytest.mark.parametrize("family", [V4, V6])
@pytest.mark.parametrize("flags", [TableFlag.NONE, TableFlag.OWNER | TableFlag.PERSIST])
def test_tables(kernel: Kernel, family: Family, flags: TableFlag) -> None:
    kernel.connection.commit([messages.new_table(family, "t", flags)])
    try:
        [entry] = kernel.listed("tables")
        assert entry["table"]["family"] == {V4: "ip", V6: "ip6"}[family]
        assert entry["table"]["name"] == "t"
        assert kernel.connection.table_flags(family, "t") == flags
    finally:
        kernel.connection.commit([messages.delete_table(family, "t")])
    assert kernel.listed("tables") == []


BASE_CHAINS = [
    ("nat", Hook.PREROUTING, -100),
    ("nat", Hook.OUTPUT, -199),
    ("nat", Hook.POSTROUTING, 101),
    ("filter", Hook.INPUT, 0),
    ("filter", Hook.FORWARD, 199),
    ("filter", Hook.OUTPUT, -300),
]


@pytest.mark.parametrize(("kind", "hook", "priority"), BASE_CHAINS)
def test_base_chains(kernel: Kernel, kind: str, hook: Hook, priority: int) -> None:
    made = messages.new_base_chain(V4, "t", "c", kind, hook, priority)
    kernel.connection.commit([messages.new_table(V4, "t"), made])
    [chain] = [entry["chain"] for entry in kernel.listed("chains")]
    assert (chain["type"], chain["hook"], chain["prio"]) == (kind, hook.name.lower(), priority)
    assert chain["policy"] == "accept"


DADDR, DPORT = typeof.payload(typeof.Header.IPV4, 12), typeof.payload(typeof.Header.TRANSPORT, 2)
MARK = typeof.meta(ex.Meta.MARK)
SET_CASES: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"key_type": 7, "key_lengths": [4]}, "set", {"type": "ipv4_addr"}),
    ({"key_type": 8, "key_lengths": [16], "size": 12}, "set", {"type": "ipv6_addr", "size": 12}),
    (
        {"key_type": 7 << 12 | 12 << 6 | 13, "key_lengths": [4, 1, 2]},
        "set",
        {"type": ["ipv4_addr", "inet_proto", "inet_service"]},
    ),
    (
        {"key_type": 7, "key_lengths": [4], "data_type": 13, "data_length": 2},
        "map",
        {"type": "ipv4_addr", "map": "inet_service"},
    ),
    (
        {"key_type": 19, "key_lengths": [4], "data_type": messages.VERDICT_TYPE},
        "map",
        {"type": "mark", "map": "verdict"},
    ),
    (
        {"key_type": 7, "key_lengths": [4], "flags": SetFlag.DYNAMIC | SetFlag.TIMEOUT, "size": 9},
        "set",
        {"flags": ["timeout"], "size": 9},
    ),
    (
        {"key_type": 7, "key_lengths": [4], "flags": SetFlag.TIMEOUT, "timeout_milliseconds": 3_600_000},
        "set",
        {"flags": ["timeout"], "timeout": 3600},
    ),
]


@pytest.mark.parametrize(("given", "kind", "expected"), SET_CASES)
def test_sets(kernel: Kernel, given: dict[str, Any], kind: str, expected: dict[str, Any]) -> None:
    kernel.connection.commit([messages.new_table(V4, "t"), messages.new_set(V4, "t", "s", 1, **given)])
    [entry] = kernel.listed(kind + "s")
    found = entry[kind]
    assert found["name"] == "s"
    assert {name: found.get(name) for name in expected} == expected
    assert ("dynamic" in kernel.space.run("nft", "list", "ruleset")) == bool(
        given.get("flags", 0) & SetFlag.DYNAMIC
    )
    kernel.connection.commit([messages.delete_set(V4, "t", "s")])
    assert kernel.listed(kind + "s") == []


def address(number: int) -> bytes:
    return bytes((10, 0, number >> 8, number & 255))


def test_elements(kernel: Kernel) -> None:
    """Keys of several fields, numbers in the host's order, comments, verdicts: all as nft shows them."""
    endpoints = messages.new_set(
        V4,
        "t",
        "m",
        1,
        key_type=7 << 6 | 4,
        key_lengths=[4, 4],
        data_type=7 << 6 | 13,
        data_length=8,
        userdata=typeof.set_userdata([DADDR, typeof.random_number(65536)], [DADDR, DPORT]),
    )
    marks = messages.new_set(
        V4,
        "t",
        "n",
        2,
        key_type=7,
        key_lengths=[4],
        data_type=19,
        data_length=4,
        userdata=typeof.set_userdata([DADDR], [MARK], host_order_data=True),
    )
    verdicts = messages.new_set(V4, "t", "v", 3, key_type=7, key_lengths=[4], data_type=messages.VERDICT_TYPE)
    pair = elements.pair_encoder
    kernel.connection.commit(
        [
            messages.new_table(V4, "t"),
            messages.new_chain(V4, "t", "there"),
            endpoints,
            marks,
            verdicts,
            *messages.new_elements(
                V4, "t", "m", [pair(8, 8)(address(1) + struct.pack("=I", 258), address(2) + b"\x1f\x90\0\0")]
            ),
            *messages.new_elements(V4, "t", "n", [pair(4, 4)(address(3), struct.pack("=I", 77))]),
            *messages.new_elements(
                V4,
                "t",
                "v",
                [
                    elements.verdict_element(address(4), ex.Verdict.JUMP, "there"),
                    elements.verdict_element(address(5), ex.Verdict.DROP),
                ],
            ),
        ]
    )
    text = kernel.space.run("nft", "list", "ruleset")
    assert "10.0.0.1 . 258 : 10.0.0.2 . 8080" in text
    assert "10.0.0.3 : 0x0000004d" in text
    assert "10.0.0.4 : jump there" in text
    assert "10.0.0.5 : drop" in text
    found = {element.key: element for element in kernel.connection.elements(V4, "t", "v")}
    assert found[address(4)].chain == "there"
    assert found[address(5)].chain == ""


def test_intervals(kernel: Kernel) -> None:
    """Of one field (two elements each) and of a concatenation (one element with two keys); nft's dump is ours."""
    plain = messages.new_set(V4, "t", "i", 1, key_type=7, key_lengths=[4], flags=SetFlag.INTERVAL)
    joined = messages.new_set(V4, "t", "j", 2, key_type=7 << 6 | 13, key_lengths=[4, 2], flags=SetFlag.INTERVAL)
    port = b"\x00\x50\0\0"
    pairs = [(address(16), address(31)), (address(32), address(32)), (b"\xff\0\0\0", b"\xff\xff\xff\xff")]
    ranges = [(address(1) + port, address(1) + b"\x00\x5a\0\0"), (address(2) + port, address(9) + port)]
    kernel.connection.commit(
        [
            messages.new_table(V4, "t"),
            plain,
            joined,
            *messages.new_elements(V4, "t", "i", [e for pair in pairs for e in elements.interval_elements(*pair)]),
            *messages.new_elements(V4, "t", "j", [elements.range_element(*each) for each in ranges]),
        ]
    )

    def dumped(name: str) -> list[tuple[bytes, bytes]]:
        return sorted(elements.dumped_intervals(kernel.connection.elements(V4, "t", name)))

    assert (dumped("i"), dumped("j")) == (pairs, ranges)
    text = kernel.space.run("nft", "list", "ruleset")
    for shown in ("10.0.0.16/28", "10.0.0.32", "255.0.0.0/8", "10.0.0.1 . 80-90", "10.0.0.2-10.0.0.9 . 80"):
        assert shown in text
    gone = elements.interval_elements(*pairs[0])
    kernel.connection.commit(
        [
            *messages.delete_elements(V4, "t", "i", gone),
            *messages.delete_elements(V4, "t", "j", [elements.range_element(*ranges[0])]),
        ]
    )
    assert (dumped("i"), dumped("j")) == (pairs[1:], ranges[1:])
    kernel.space.run("nft", "add", "element", "ip", "t", "i", "{ 10.0.0.0/29 }")  # nft's own way to write them
    assert dumped("i") == [(address(0), address(7)), *pairs[1:]]


@pytest.mark.parametrize("count", [1, 1499, 1500, 1501, 6000])
def test_elements_over_the_bounds_of_messages(kernel: Kernel, count: int) -> None:
    """What comes back is what was sent, however many messages it took, and can be deleted the same way."""
    encode = elements.key_encoder(4)
    keys = [address(number) for number in range(count)]
    made = messages.new_set(V4, "t", "s", 1, key_type=7, key_lengths=[4], size=10_000)
    added = messages.new_elements(V4, "t", "s", map(encode, keys))
    kernel.connection.commit([messages.new_table(V4, "t"), made, *added])
    assert {element.key for element in kernel.connection.elements(V4, "t", "s")} == set(keys)
    kernel.connection.commit(list(messages.delete_elements(V4, "t", "s", map(encode, keys))))
    assert list(kernel.connection.elements(V4, "t", "s")) == []


@pytest.mark.parametrize(("data_length", "count"), [(0, 1), (0, 5000), (8, 1), (8, 5000)])
def test_large_sets_are_read_fast(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, data_length: int, count: int
) -> None:
    """Without a look at each attribute."""
    pairs = {address(n) + b"\0\x50\0\0": address(n)[:data_length].ljust(data_length, b"\1") for n in range(count)}
    data = {"data_type": 7 << 6 | 13, "data_length": 8} if data_length else {}
    made = messages.new_set(V4, "t", "s", 1, key_type=7 << 6 | 13, key_lengths=[4, 2], size=10_000, **data)
    encode = elements.pair_encoder(8, 8) if data_length else lambda key, _: elements.key_encoder(8)(key)
    added = messages.new_elements(V4, "t", "s", itertools.starmap(encode, pairs.items()))
    kernel.connection.commit([messages.new_table(V4, "t"), made, *added])
    with monkeypatch.context() as patched:
        patched.setattr(elements, "DumpedElement", None)
        assert kernel.connection.pairs(V4, "t", "s", 8, data_length) == pairs
    assert {e.key: e.data for e in kernel.connection.elements(V4, "t", "s")} == pairs


def test_large_sets_with_odd_elements_are_read(kernel: Kernel) -> None:
    kernel.load("""table ip t {
        set s { type ipv4_addr; flags timeout; elements = { 10.0.0.1 comment "one", 10.0.0.2 timeout 1h }; }
        set p { type ipv4_addr; elements = { 10.0.0.1, 10.0.0.3 comment "0123456", 10.0.0.2 }; }
        map m { type ipv4_addr . inet_service : ipv4_addr . inet_service; counter
            elements = { 10.0.0.1 . 80 : 10.0.0.2 . 8080 }; }
    }""")
    assert kernel.connection.pairs(V4, "t", "s", 4).keys() == {address(1), address(2)}
    assert kernel.connection.pairs(V4, "t", "p", 4).keys() == {address(1), address(2), address(3)}
    pair = {address(1) + b"\0\x50\0\0": address(2) + b"\x1f\x90\0\0"}
    assert kernel.connection.pairs(V4, "t", "m", 8, 8) == pair


def test_elements_that_nft_made_are_read(kernel: Kernel) -> None:
    """With comments, timeouts and counters, which say more than we need."""
    kernel.load("""table ip t {
        set s { type ipv4_addr; flags timeout; elements = { 10.0.0.1 comment "one", 10.0.0.2 timeout 1h }; }
        map m { type ipv4_addr . inet_service : ipv4_addr . inet_service; counter
            elements = { 10.0.0.1 . 80 : 10.0.0.2 . 8080 }; }
    }""")
    found = {e.key: e.comment for e in kernel.connection.elements(V4, "t", "s")}
    assert found == {address(1): "one", address(2): ""}
    [pair] = kernel.connection.elements(V4, "t", "m")
    assert (pair.key, pair.data) == (address(1) + b"\0\x50\0\0", address(2) + b"\x1f\x90\0\0")


def test_delete_chains_and_rules(kernel: Kernel) -> None:
    connection = kernel.connection
    rule = messages.new_rule(V4, "t", "c", [ex.verdict(ex.Verdict.DROP)], "why")
    connection.commit([messages.new_table(V4, "t"), *(messages.new_chain(V4, "t", n) for n in "cd"), rule, rule])
    assert [entry["rule"]["comment"] for entry in kernel.listed("ruleset") if "rule" in entry] == ["why", "why"]
    connection.commit([messages.delete_rules(V4, "t", "c"), messages.delete_chain(V4, "t", "c")])
    assert (connection.chains(V4, "t"), connection.rules(V4, "t")) == (["d"], [])
