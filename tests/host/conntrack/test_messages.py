"""Messages of connection tracking: golden bytes written out from nfnetlink_conntrack.h, answers as Linux 6.18 gave
them, and what must hold for all."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.host import netlink
from kpng.host.conntrack import UDP, Flow, Query, socket_address
from kpng.host.conntrack.messages import Attribute, delete_flow, family, get_flows, new_flow, read_flow

V4, V6 = socket.AF_INET, socket.AF_INET6
TCP, SCTP, ICMP = 6, 132, 1
HEADER = 16
IPV4_ENDS = st.tuples(st.ip_addresses(v=4).map(str), st.integers(0, 65535))
IPV6_ENDS = st.tuples(st.ip_addresses(v=6).map(str), st.integers(0, 65535))
FOUR_ENDS = st.one_of(st.tuples(*[IPV4_ENDS] * 4), st.tuples(*[IPV6_ENDS] * 4))
PROTOCOLS = st.sampled_from([TCP, UDP, SCTP])


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", "").replace("\n", ""))


SOCKET_ADDRESSES = [
    ("10.96.0.10", 53, "0a60000a 0035"),
    ("0.0.0.0", 0, "00000000 0000"),
    ("255.255.255.255", 65535, "ffffffff ffff"),
    ("fd00::7", 30053, "fd000000000000000000000000000007 7565"),
    ("::", 1, "00000000000000000000000000000000 0001"),
]


@pytest.mark.parametrize(("address", "port", "expected"), SOCKET_ADDRESSES)
def test_socket_addresses(address: str, port: int, expected: str) -> None:
    packed = socket_address(address, port)
    assert packed == unhex(expected)
    assert family(packed) is (V6 if ":" in address else V4)


@pytest.mark.parametrize("text", ["", "10.0.0", "fd00::g", "name", "10.0.0.1 "])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(OSError, match="illegal IP address"):
        socket_address(text, 1)


QUERIES = [
    (
        Query(V4),
        "3400 0180 1400 0180 0800 0100 00000000 0800 0200 00000000 1c00 0280 0500 0100 11000000"
        "0600 0200 00000000 0600 0300 00000000"
        "1400 1980 0800 0100 08000000 0800 0200 00000000",
    ),
    (
        Query(V4, address=socket.inet_aton("10.96.0.10"), port=53),
        "3400 0180 1400 0180 0800 0100 00000000 0800 0200 0a60000a 1c00 0280 0500 0100 11000000"
        "0600 0200 00000000 0600 0300 00350000"
        "1400 1980 0800 0100 2a000000 0800 0200 00000000",
    ),
    (
        Query(V4, TCP, port=30080),
        "3400 0180 1400 0180 0800 0100 00000000 0800 0200 00000000 1c00 0280 0500 0100 06000000"
        "0600 0200 00000000 0600 0300 75800000"
        "1400 1980 0800 0100 28000000 0800 0200 00000000",
    ),
    (
        Query(V4, answered_by=socket_address("10.1.0.1", 8080)),
        "3400 0180 1400 0180 0800 0100 00000000 0800 0200 00000000 1c00 0280 0500 0100 11000000"
        "0600 0200 00000000 0600 0300 00000000"
        "3400 0280 1400 0180 0800 0100 0a010001 0800 0200 00000000 1c00 0280 0500 0100 11000000"
        "0600 0200 1f900000 0600 0300 00000000"
        "1400 1980 0800 0100 08000000 0800 0200 19000000",
    ),
    (
        Query(V6, address=socket.inet_pton(V6, "fd00::7"), port=53),
        "4c00 0180 2c00 0180 1400 0300 00000000000000000000000000000000"
        "1400 0400 fd000000000000000000000000000007 1c00 0280 0500 0100 11000000"
        "0600 0200 00000000 0600 0300 00350000"
        "1400 1980 0800 0100 28000000 0800 0200 00000000",
    ),
    (
        Query(V6, answered_by=socket_address("fd00:1::1", 8080)),
        "4c00 0180 2c00 0180 1400 0300 00000000000000000000000000000000"
        "1400 0400 00000000000000000000000000000000 1c00 0280 0500 0100 11000000"
        "0600 0200 00000000 0600 0300 00000000"
        "4c00 0280 2c00 0180 1400 0300 fd000001000000000000000000000001"
        "1400 0400 00000000000000000000000000000000 1c00 0280 0500 0100 11000000"
        "0600 0200 1f900000 0600 0300 00000000"
        "1400 1980 0800 0100 08000000 0800 0200 18000000",
    ),
]
"""By IPv6 address nothing may be filtered: the kernel gets it the wrong way round."""


@pytest.mark.parametrize(("query", "expected"), QUERIES)
def test_queries(query: Query, expected: str) -> None:
    body = unhex(expected)
    head = (HEADER + 4 + len(body)).to_bytes(4, "little") + unhex("0101 0103 00000000 00000000")
    assert get_flows(query) == head + bytes([query.family, 0, 0, 0]) + body


def test_a_query_without_filter_names_the_family_only() -> None:
    whole = get_flows(Query(V6, address=bytes(16), port=53), filtered=False)
    assert whole == unhex("14000000 0101 0103 00000000 00000000 0a000000")


IPV4_FLOW = unhex(
    "02000000"
    "34000180 14000180 08000100c0000701 080002000a600701 1c000280 0500010011000000"
    "0600020053380000 0600030000350000"
    "34000280 14000180 080001000a010703 08000200c0000701 1c000280 0500010011000000"
    "0600020014e90000 0600030053380000"
    "08000300 0000000a 08000800 00000000 08000c00 9f5caa1a 08000b00 00000001 08000700 00000e0d"
)
"""UDP 192.0.7.1:21304 to 10.96.7.1:53, answered by 10.1.7.3:5353; as a dump had it."""


def test_a_flow_as_the_kernel_tells_it() -> None:
    flow = read_flow(IPV4_FLOW)
    assert flow == Flow(UDP, socket_address("10.96.7.1", 53), socket_address("10.1.7.3", 5353), IPV4_FLOW)


def test_a_delete_names_the_tuple_and_the_id() -> None:
    flow = read_flow(IPV4_FLOW)
    assert flow is not None
    assert delete_flow(flow) == unhex("50000000 0201 0100 00000000 00000000 02000000") + IPV4_FLOW[4:56] + unhex(
        "08000c00 9f5caa1a"
    )


def test_a_delete_names_the_zone() -> None:
    """Else the kernel looks in zone 0, and does not find it (ctnetlink_parse_zone)."""
    zone = netlink.attribute(Attribute.ZONE, b"\x00\x07")
    flow = read_flow(IPV4_FLOW + zone)
    assert flow is not None
    assert zone in delete_flow(flow)


def payload_of(encoded: bytes) -> bytes:
    return encoded[HEADER:]


@given(PROTOCOLS, FOUR_ENDS)
def test_flows_round_trip(protocol: int, ends: tuple[tuple[str, int], ...]) -> None:
    client, destination, endpoint, seen = (socket_address(*end) for end in ends)
    payload = payload_of(new_flow(protocol, (client, destination), (endpoint, seen), status=14))
    assert read_flow(payload) == Flow(protocol, destination, endpoint, payload)


@given(PROTOCOLS, FOUR_ENDS, st.sampled_from([Attribute.TUPLE_ORIGINAL, Attribute.TUPLE_REPLY]))
def test_a_message_built_otherwise_reads_the_same(
    protocol: int, ends: tuple[tuple[str, int], ...], zoned: Attribute
) -> None:
    """With a zone in one direction the fixed places do not hold (CTA_TUPLE_ZONE)."""
    client, destination, endpoint, seen = (socket_address(*end) for end in ends)
    payload = payload_of(new_flow(protocol, (client, destination), (endpoint, seen), status=14))
    parts = netlink.attribute_map(payload, 4)
    parts[zoned] += netlink.attribute(3, b"\x00\x07")
    moved = payload[:4] + b"".join(
        netlink.nested(kind, value) if kind in {1, 2} else netlink.attribute(kind, value)
        for kind, value in parts.items()
    )
    assert read_flow(moved) == Flow(protocol, destination, endpoint, moved)
    assert zoned != Attribute.TUPLE_ORIGINAL or netlink.attribute(3, b"\x00\x07") in delete_flow(
        Flow(protocol, destination, endpoint, moved)
    )


@given(st.sampled_from([b"\2\0\0\0", b"\x0a\0\0\0", b"\x07\0\0\0", b""]), st.binary(max_size=200))
def test_garbage_is_no_flow(head: bytes, garbage: bytes) -> None:
    found = read_flow(head + garbage)
    assert found is None or found.message == head + garbage


@given(st.integers(0, len(IPV4_FLOW)), st.binary(min_size=1, max_size=8))
def test_damaged_flows_do_no_harm(position: int, damage: bytes) -> None:
    read_flow(IPV4_FLOW[:position] + damage + IPV4_FLOW[position + len(damage) :])
    read_flow(IPV4_FLOW[:position])


def test_a_protocol_without_ports_is_no_flow_of_ours() -> None:
    ip = netlink.nested(1, netlink.attribute(1, bytes(4)), netlink.attribute(2, bytes(4)))
    number = netlink.nested(2, netlink.attribute(1, bytes([ICMP])))
    both = netlink.nested(1, ip, number) + netlink.nested(2, ip, number)
    assert read_flow(b"\2\0\0\0" + both) is None


FLOW = Flow(UDP, socket_address("10.96.0.10", 53), socket_address("10.1.0.1", 5353), b"")
NAMED = [
    (Query(V4), True),
    (Query(V4, TCP), False),
    (Query(V4, port=53), True),
    (Query(V4, port=54), False),
    (Query(V4, address=FLOW.destination[:-2]), True),
    (Query(V4, address=FLOW.destination[:-2], port=53), True),
    (Query(V4, address=FLOW.destination[:-2], port=5353), False),
    (Query(V4, address=FLOW.reply_source[:-2], port=53), False),
    (Query(V4, answered_by=FLOW.reply_source), True),
    (Query(V4, answered_by=FLOW.destination), False),
    (Query(V4, TCP, answered_by=FLOW.reply_source), False),
    (Query(V4, port=54, answered_by=FLOW.reply_source), False),
]


@pytest.mark.parametrize(("query", "expected"), NAMED)
def test_which_flows_a_query_names(query: Query, expected: bool) -> None:
    """Kernels before 5.8 answer with everything; TCP must not be touched there either."""
    assert query.names(FLOW) is expected
