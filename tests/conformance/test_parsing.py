"""Whatever leaves the node is read, or is of no interest; nothing makes the reader fail."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.conformance.packets import ACK, RST, SYN, build
from kpng.conformance.parsing import Refusal, Reset, parse

CLIENT, SERVER = ("192.0.2.1", 40000), ("10.96.0.1", 80)
CLIENT6, SERVER6 = ("fd00::1", 40000), ("fd00:96::1", 80)


def ip(number: int, source: str, target: str, payload: bytes, options: bytes = b"") -> bytes:
    """An IP packet whose checksums nobody looks at."""
    sender, receiver = ip_address(source).packed, ip_address(target).packed
    if len(sender) == 16:
        return struct.pack("!IHBB", 6 << 28, len(payload), number, 64) + sender + receiver + payload
    length = 20 + len(options)
    start = struct.pack("!BBHHHBBH", 0x40 | length // 4, 0, length + len(payload), 0, 0, 64, number, 0)
    return start + sender + receiver + options + payload


def icmp(kind: int, code: int, quoted: bytes, *, to: str = CLIENT[0]) -> bytes:
    number, router = (58, "fd00:96::1") if ":" in to else (1, "10.96.0.1")
    return ip(number, router, to, struct.pack("!BBHI", kind, code, 0, 0) + quoted)


def tcp(flags: int, acknowledged: int) -> bytes:
    segment = struct.pack("!HHIIBBHHH", 80, 40000, 99, acknowledged, 0x50, flags, 0, 0, 0)
    return ip(6, SERVER[0], CLIENT[0], segment)


@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
@pytest.mark.parametrize("code", [0, 3, 13])
def test_a_refusal_is_known_by_the_packet_it_quotes(protocol: str, code: int) -> None:
    quoted = build(protocol, CLIENT, SERVER, 4711)
    assert parse(icmp(3, code, quoted)) == Refusal(4711, CLIENT[0], code)


@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
def test_a_refusal_over_ipv6(protocol: str) -> None:
    quoted = build(protocol, CLIENT6, SERVER6, 4711)
    assert parse(icmp(1, 4, quoted, to=CLIENT6[0])) == Refusal(4711, CLIENT6[0], 4)


def test_eight_bytes_of_tcp_are_enough_to_quote() -> None:
    quoted = build("tcp", CLIENT, SERVER, 5)[:28]
    assert parse(icmp(3, 3, quoted)) == Refusal(5, CLIENT[0], 3)


@pytest.mark.parametrize("kind", [0, 5, 8, 11, 12])
def test_other_icmp_is_of_no_interest(kind: int) -> None:
    assert parse(icmp(kind, 0, build("tcp", CLIENT, SERVER, 5))) is None


def test_neighbour_discovery_is_of_no_interest() -> None:
    assert parse(ip(58, "fe80::1", "ff02::2", struct.pack("!BBHI", 133, 0, 0, 0))) is None


@pytest.mark.parametrize("token", [1, 4711, 2**32 - 1])
def test_a_reset_answers_the_number_after_ours(token: int) -> None:
    assert parse(tcp(RST | ACK, (token + 1) & 0xFFFFFFFF)) == Reset(token)


@pytest.mark.parametrize("flags", [SYN | ACK, ACK, RST])
def test_other_answers_say_nothing_new(flags: int) -> None:
    assert parse(tcp(flags, 4712)) is None


def test_options_of_the_header_are_skipped() -> None:
    plain = build("udp", CLIENT, SERVER, 9)
    found = parse(ip(17, CLIENT[0], SERVER[0], plain[20:], options=b"\1" * 8))
    assert found == parse(plain)


@given(st.binary(max_size=120))
def test_noise_is_of_no_interest(content: bytes) -> None:
    parse(content)


@given(protocol=st.sampled_from(["tcp", "udp", "sctp"]), end=st.integers(0, 60))
def test_a_packet_cut_short_does_no_harm(protocol: str, end: int) -> None:
    whole = build(protocol, CLIENT, SERVER, 1)
    found = parse(whole[:end])
    assert found is None or end >= 24
    parse(icmp(3, 3, whole)[:end])
