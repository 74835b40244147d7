"""The encoders: bytes as nft 1.0.6 sends them (captured with --debug=mnl), and what the kernel says to them."""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.host import netlink
from kpng.host.nftables import (
    Family,
    Hook,
    Kind,
    Nftables,
    SetFlag,
    TableFlag,
    TransactionError,
    elements,
    messages,
    typeof,
)
from kpng.host.nftables import expressions as ex
from kpng.lab.netns import Namespace, run

_numbers = itertools.count()

# As the kernel dumps rules that nft made. nft names the 128-bit registers 1 to 4, we the 32-bit ones 8 to 23: the
# kernel calls register 8 "1", so where they mean the same the numbers below are ours.
GOLDEN = [
    (
        ex.meta(1, ex.Meta.L4PROTO),
        "2400 0180 0900 0100 6d657461 00000000 1400 0280 0800 0100 00000009 0800 0200 00000010",
    ),
    (
        ex.payload(2, ex.Base.TRANSPORT, 2, 2),
        "3400 0180 0c00 0100 7061796c6f616400 2400 0280 0800 0100 0000000a 0800 0200 00000002"
        "0800 0300 00000002 0800 0400 00000002",
    ),
    (
        ex.fib_daddr_type(0),
        "2800 0180 0800 0100 66696200 1c00 0280 0800 0100 00000008 0800 0200 00000003 0800 0300 00000002",
    ),
    (
        ex.compare(0, ex.Compare.NOT_EQUAL, b"\x7f"),
        "2c00 0180 0800 0100 636d7000 2000 0280 0800 0100 00000008 0800 0200 000000010c00 0380 0500 0100 7f000000",
    ),
    (ex.masquerade_fully_random(), "1c00 0180 0900 0100 6d617371 00000000 0c00 0280 0800 0100 00000010"),
    (
        ex.ct_original(2, ex.Ct.PROTO_DST),
        "2800 0180 0700 0100 63740000 1c00 0280 0800 0100 0000000a 0800 0200 0000000c 0500 0300 00000000",
    ),
]


@pytest.mark.parametrize(("encoded", "expected"), GOLDEN)
def test_expressions(encoded: bytes, expected: str) -> None:
    assert encoded.hex() == expected.replace(" ", "")


def test_typeof_userdata() -> None:
    """As nft 1.0.6 wrote it for `typeof ip daddr . meta l4proto . th dport . numgen random mod 65536 : ip daddr
    . th dport`, without its last field (merge elements), which has no meaning here."""
    daddr = typeof.payload(typeof.Header.IPV4, 12)
    dport = typeof.payload(typeof.Header.TRANSPORT, 2)
    key = [daddr, typeof.meta(ex.Meta.L4PROTO), dport, typeof.random_number(65536)]
    captured = (
        "000400000000010400000000036000040d00000001580014000407000000010c00040c00000001040c000000010e000409000000010600"
        "04100000000214000407000000010c00040b000000010402000000031a0004170000000112000401000000010400000100020400000000"
        "043400040d000000012c0014000407000000010c00040c00000001040c0000000114000407000000010c00040b000000010402000000"
    )
    assert typeof.set_userdata(key, [daddr, dport]).hex() == captured


def test_comment_userdata() -> None:
    assert messages.comment_userdata("fingerprint abcdef").hex() == "0013" + b"fingerprint abcdef\0".hex()
    assert len(messages.comment_userdata("x" * 500)) == 257


def test_fast_encoders_give_what_the_plain_ones_do() -> None:
    key, data = bytes(range(12)), bytes(range(8))
    plain = netlink.nested(1, ex.data_value(1, key), ex.data_value(2, data))
    assert elements.pair_encoder(12, 8)(key, data) == plain
    assert elements.key_encoder(12)(key) == netlink.nested(1, ex.data_value(1, key))


@given(st.lists(st.binary(min_size=16, max_size=16), unique=True, min_size=1, max_size=300))
def test_every_element_can_be_found_by_its_offset(keys: list[bytes]) -> None:
    encode = elements.key_encoder(16)
    [message] = messages.new_elements(Family.IPV4, "kpng", "some-set", map(encode, keys))
    for key in keys:
        position = message.index(encode(key))
        assert elements.element_at(message, position) == key
        assert elements.element_at(message, position + 12) == key
    assert elements.element_at(message, 21) is None


def test_elements_go_into_as_many_messages_as_it_takes() -> None:
    encode = elements.key_encoder(4)
    keys = [number.to_bytes(4, "big") for number in range(20_000)]
    split = list(messages.new_elements(Family.IPV4, "t", "s", map(encode, keys)))
    assert len(split) == 6
    assert all(len(message) < 65_000 for message in split)
    assert sum(len(message) for message in split) > 20_000 * 16


class InNamespace:
    def __init__(self, name: str) -> None:
        self.space = Namespace(name)
        self.space.create()
        self.thread: ThreadPoolExecutor = self.space.executor()
        self.connection = self.another()

    def another(self) -> Nftables:
        return self.thread.submit(Nftables).result()

    def close(self) -> None:
        self.connection.close()
        self.thread.shutdown()
        self.space.delete()


@pytest.fixture
def inside() -> Iterator[InNamespace]:
    found = InNamespace(f"kpt-{os.getpid()}-host-{next(_numbers)}")
    try:
        yield found
    finally:
        found.close()


def skeleton(size: int = 0) -> list[bytes]:
    return [
        messages.new_table(Family.IPV4, "t"),
        messages.new_set(Family.IPV4, "t", "s", 1, key_type=7, key_lengths=[4], size=size),
        messages.new_set(Family.IPV4, "t", "m", 2, key_type=0x1CD, key_lengths=[4, 2], data_type=7, data_length=4),
    ]


def set_elements(*numbers: int) -> list[bytes]:
    encode = elements.key_encoder(4)
    return list(messages.new_elements(Family.IPV4, "t", "s", (encode(n.to_bytes(4, "big")) for n in numbers)))


EVERY_EXPRESSION: list[Callable[[], list[bytes]]] = [
    lambda: [ex.payload(0, ex.Base.NETWORK, 16, 4), ex.in_set("s", 0)],
    lambda: [ex.payload(0, ex.Base.NETWORK, 16, 4), ex.in_set("s", 0, inverted=True), ex.verdict(ex.Verdict.DROP)],
    lambda: [ex.meta(15, ex.Meta.MARK), ex.set_meta(15, ex.Meta.MARK)],
    lambda: [ex.ct(0, ex.Ct.STATE), ex.mask(0, b"\x08\0\0\0"), ex.compare(0, ex.Compare.EQUAL, b"\x08\0\0\0")],
    lambda: [ex.random_number(3, 7), ex.immediate(4, bytes(4))],
    lambda: [ex.ct_original(0, ex.Ct.DST_IP), ex.ct_original(1, ex.Ct.PROTO_DST), ex.lookup("m", 0, 4)],
    lambda: [ex.payload(0, ex.Base.NETWORK, 12, 4), ex.fib_daddr_type(5), ex.verdict(ex.Verdict.RETURN)],
]


@pytest.mark.netns
@pytest.mark.parametrize("expressions", EVERY_EXPRESSION)
def test_the_kernel_takes(inside: InNamespace, expressions: Callable[[], list[bytes]]) -> None:
    chain = messages.new_base_chain(Family.IPV4, "t", "c", "filter", Hook.PREROUTING, -150)
    rule = messages.new_rule(Family.IPV4, "t", "c", expressions(), "a comment")
    inside.connection.commit([*skeleton(), chain, rule])
    assert inside.connection.rules(Family.IPV4, "t") == ["c"]
    assert 'comment "a comment"' in inside.space.run("nft", "list", "ruleset")


@pytest.mark.netns
def test_a_refused_transaction_leaves_nothing_and_names_the_element(inside: InNamespace) -> None:
    connection = inside.connection
    connection.commit([*skeleton(), *set_elements(1, 2, 3)])
    before = connection.generation()
    encode = elements.key_encoder(4)
    gone = [encode(n.to_bytes(4, "big")) for n in (1, 2, 99, 3)]
    parts = [*set_elements(7, 8), *messages.delete_elements(Family.IPV4, "t", "s", gone)]
    with pytest.raises(TransactionError) as caught:
        connection.commit(parts)
    error = caught.value
    assert (error.errno, error.kind, error.table, error.name) == (errno.ENOENT, Kind.DELETE_ELEMENTS, "t", "s")
    assert error.key == (99).to_bytes(4, "big")
    assert "delete elements ip t s element 00000063: No such file" in str(error)
    assert sorted(e.key for e in connection.elements(Family.IPV4, "t", "s")) == [
        n.to_bytes(4, "big") for n in (1, 2, 3)
    ]
    assert connection.generation() == before


@pytest.mark.netns
def test_another_value_for_a_key_in_one_transaction(inside: InNamespace) -> None:
    pair = elements.pair_encoder(8, 4)
    key = bytes([10, 0, 0, 1, 0, 80, 0, 0])
    old, new = pair(key, b"\1\1\1\1"), pair(key, b"\2\2\2\2")
    commit = inside.connection.commit
    commit([*skeleton(), *messages.new_elements(Family.IPV4, "t", "m", [old])])
    with pytest.raises(TransactionError) as caught:
        commit(list(messages.new_elements(Family.IPV4, "t", "m", [new])))
    assert caught.value.errno == errno.EEXIST
    deletion = messages.delete_elements(Family.IPV4, "t", "m", [elements.key_encoder(8)(key)])
    commit([*deletion, *messages.new_elements(Family.IPV4, "t", "m", [new])])
    [found] = inside.connection.elements(Family.IPV4, "t", "m")
    assert (found.key, found.data) == (key, b"\2\2\2\2")


@pytest.mark.netns
def test_large_transactions_and_dumps(inside: InNamespace) -> None:
    """More than the default send buffer, more than one dump message."""
    numbers = range(50_000)
    before = inside.connection.generation()
    inside.connection.commit([*skeleton(), *set_elements(*numbers)])
    assert inside.connection.generation() == before + 1
    wanted = {n.to_bytes(4, "big") for n in numbers}
    deadline = time.monotonic() + 5  # while its hash table grows, the kernel's dump skips and repeats elements
    while {element.key for element in inside.connection.elements(Family.IPV4, "t", "s")} != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.netns
def test_verdicts_and_comments_come_back(inside: InNamespace) -> None:
    classes = messages.new_set(
        Family.IPV4, "t", "v", 3, key_type=19, key_lengths=[4], data_type=messages.VERDICT_TYPE
    )
    jump = elements.verdict_element(bytes(4), ex.Verdict.JUMP, "c")
    noted = elements.commented_element(bytes(4), "a note")
    inside.connection.commit(
        [
            *skeleton(),
            classes,
            messages.new_chain(Family.IPV4, "t", "c"),
            *messages.new_elements(Family.IPV4, "t", "v", [jump]),
            *messages.new_elements(Family.IPV4, "t", "s", [noted]),
        ]
    )
    [verdict] = inside.connection.elements(Family.IPV4, "t", "v")
    [note] = inside.connection.elements(Family.IPV4, "t", "s")
    assert (verdict.chain, note.comment) == ("c", "a note")
    assert inside.connection.chains(Family.IPV4, "t") == ["c"]
    assert set(inside.connection.sets(Family.IPV4, "t")) == {"s", "m", "v"}


@pytest.mark.netns
def test_nothing_there(inside: InNamespace) -> None:
    assert inside.connection.table_flags(Family.IPV4, "t") is None
    assert inside.connection.chains(Family.IPV4, "t") == []
    with pytest.raises(netlink.NetlinkError) as caught:
        inside.connection.elements(Family.IPV4, "t", "s")
    assert caught.value.errno == errno.ENOENT


@pytest.mark.netns
def test_an_owned_table_is_the_owners(inside: InNamespace) -> None:
    flags = TableFlag.OWNER | TableFlag.PERSIST
    inside.connection.commit([messages.new_table(Family.IPV6, "t", flags)])
    other = inside.another()
    with pytest.raises(TransactionError) as caught:
        other.commit([messages.delete_table(Family.IPV6, "t")])
    assert caught.value.errno == errno.EPERM
    inside.connection.close()
    assert other.table_flags(Family.IPV6, "t") == TableFlag.PERSIST
    other.commit([messages.delete_table(Family.IPV6, "t")])
    assert other.table_flags(Family.IPV6, "t") is None
    other.close()


@pytest.mark.netns
def test_a_dynamic_set(inside: InNamespace) -> None:
    """The packet path adds to it; seen with a packet to the loopback."""
    dynamic = messages.new_set(
        Family.IPV4,
        "t",
        "d",
        3,
        key_type=7,
        key_lengths=[4],
        flags=SetFlag.DYNAMIC | SetFlag.TIMEOUT,
        size=10,
        timeout_milliseconds=60_000,
    )
    chain = messages.new_base_chain(Family.IPV4, "t", "c", "filter", Hook.INPUT, 0)
    rule = messages.new_rule(
        Family.IPV4, "t", "c", [ex.payload(0, ex.Base.NETWORK, 16, 4), ex.update_element("d", 0)]
    )
    inside.connection.commit([*skeleton(), dynamic, chain, rule])
    run(inside.space.argv("bash", "-c", "echo > /dev/udp/127.0.0.9/9"))
    assert bytes([127, 0, 0, 9]) in {e.key for e in inside.connection.elements(Family.IPV4, "t", "d")}
