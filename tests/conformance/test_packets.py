"""Packets are built as the RFCs say: known bytes, and what a receiver would check."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.conformance.packets import NUMBERS, build, checksum, crc32c
from kpng.conformance.parsing import Departure, parse

PORTS = st.integers(1, 65535)
TOKENS = st.integers(1, 2**32 - 1)
V4 = st.builds(lambda n: str(IPv4Address(n)), st.integers(0, 2**32 - 1))
V6 = st.builds(lambda n: str(IPv6Address(n)), st.integers(0, 2**128 - 1))


@pytest.mark.parametrize(
    ("content", "sum_"),
    [
        ("0001f203f4f5f6f7", 0x220D),  # the example of RFC 1071, section 3
        ("4500003044224000800600008c7c19acae241e2b", 0x442E),
        ("45000073000040004011 0000 c0a80001c0a800c7", 0xB861),
        ("", 0xFFFF),
        ("01", 0xFEFF),  # an odd byte counts as the high one of a pair
    ],
)
def test_the_internet_checksum(content: str, sum_: int) -> None:
    assert checksum(bytes.fromhex(content)) == sum_


@pytest.mark.parametrize(
    ("content", "crc"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720, B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"", 0),
    ],
)
def test_the_checksum_of_sctp(content: bytes, crc: int) -> None:
    assert crc32c(content) == crc


def test_a_tcp_packet_is_known_to_the_byte() -> None:
    packet = build("tcp", ("10.0.0.1", 1000), ("10.0.0.2", 80), 0x01020304)
    header = "45000028 0000 0000 4006 66ce 0a000001 0a000002"
    segment = "03e8 0050 01020304 00000000 5002 ffff 93a2 0000"
    assert packet == bytes.fromhex(header + segment)


def test_a_udp_packet_over_ipv6_is_known_to_the_byte() -> None:
    packet = build("udp", ("fd00::1", 53), ("fd00::2", 54), 7)
    header = "60000000 000c 11 40" + "fd" + "00" * 14 + "01" + "fd" + "00" * 14 + "02"
    assert packet == bytes.fromhex(header + "0035 0036 000c 0560 00000007")


def pseudo_header(packet: bytes) -> bytes:
    """Written anew from RFC 793 and RFC 8200, 8.1."""
    if packet[0] >> 4 == 4:
        return packet[12:20] + struct.pack("!BBH", 0, packet[9], len(packet) - 20)
    return packet[8:40] + struct.pack("!II", len(packet) - 40, packet[6])


@given(
    protocol=st.sampled_from(["tcp", "udp"]), hosts=st.one_of(st.tuples(V4, V4), st.tuples(V6, V6)), token=TOKENS
)
def test_a_receiver_finds_the_checksum_right(protocol: str, hosts: tuple[str, str], token: int) -> None:
    packet = build(protocol, (hosts[0], 1024), (hosts[1], 443), token)
    start = 20 if packet[0] >> 4 == 4 else 40
    assert checksum(pseudo_header(packet) + packet[start:]) == 0
    if start == 20:
        assert checksum(packet[:20]) == 0


@given(token=TOKENS, source=PORTS, target=PORTS)
def test_a_receiver_finds_sctps_checksum_right(token: int, source: int, target: int) -> None:
    segment = build("sctp", ("192.0.2.1", source), ("192.0.2.2", target), token)[20:]
    (stated,) = struct.unpack_from("<I", segment, 8)
    assert stated == crc32c(segment[:8] + bytes(4) + segment[12:])


@given(
    protocol=st.sampled_from(sorted(NUMBERS)),
    hosts=st.one_of(st.tuples(V4, V4), st.tuples(V6, V6)),
    ports=st.tuples(PORTS, PORTS),
    token=TOKENS,
)
def test_what_is_built_is_known_again(
    protocol: str, hosts: tuple[str, str], ports: tuple[int, int], token: int
) -> None:
    source, target = (hosts[0], ports[0]), (hosts[1], ports[1])
    assert parse(build(protocol, source, target, token)) == Departure(token, source, target)


def test_the_length_is_in_the_header() -> None:
    for protocol, length in (("tcp", 40), ("udp", 32), ("sctp", 52)):
        packet = build(protocol, ("192.0.2.1", 1), ("192.0.2.2", 2), 1)
        assert len(packet) == struct.unpack_from("!H", packet, 2)[0] == length
        packet = build(protocol, ("fd00::1", 1), ("fd00::2", 2), 1)
        assert len(packet) - 40 == struct.unpack_from("!H", packet, 4)[0] == length - 20
