"""Reading the packets that the node sends out: which of ours it is, and what has become of it."""

from __future__ import annotations

from ipaddress import ip_address

from msgspec import Struct

from .packets import ACK, ICMP, ICMPV6, RST, SCTP, SYN, TCP, TOKEN, UDP

_TOKEN_PLACES = {TCP: 4, UDP: 8, SCTP: 16}
_TCP_FLAGS = 13
_TCP_ACKNOWLEDGED = 8
_UNREACHABLE = {ICMP: 3, ICMPV6: 1}


class Departure(Struct, frozen=True):
    """A packet of ours that the node passed on: (address, port) as they are now."""

    token: int
    source: tuple[str, int]
    target: tuple[str, int]


class Refusal(Struct, frozen=True):
    """An ICMP error of type "destination unreachable" for a packet of ours."""

    token: int
    receiver: str
    code: int


class Reset(Struct, frozen=True):
    """A TCP RST in answer to a packet of ours."""

    token: int


Found = Departure | Refusal | Reset


class _Packet(Struct, frozen=True):
    """The parts of an IP packet (without IPv6 extension headers, which nobody here sends)."""

    number: int
    source: str
    target: str
    payload: bytes


def parse(content: bytes) -> Found | None:
    """What a packet says about one of ours; None if nothing."""
    packet = _split(content)
    if packet is None:
        return None
    if packet.number in _UNREACHABLE:
        return _refusal(packet)
    if packet.number == TCP and len(packet.payload) > _TCP_FLAGS and packet.payload[_TCP_FLAGS] != SYN:
        return _answer(packet.payload)
    token = _token(packet)
    if token is None:
        return None
    return Departure(token, (packet.source, _port(packet, 0)), (packet.target, _port(packet, 2)))


def _split(content: bytes) -> _Packet | None:
    version = content[0] >> 4 if content else 0
    if version == 4 and len(content) >= 20:
        start = (content[0] & 0x0F) * 4
        source, target, number = content[12:16], content[16:20], content[9]
    elif version == 6 and len(content) >= 40:
        start, source, target, number = 40, content[8:24], content[24:40], content[6]
    else:
        return None
    return _Packet(number, str(ip_address(source)), str(ip_address(target)), content[start:])


def _refusal(packet: _Packet) -> Refusal | None:
    """The error quotes the packet it is about, after 8 bytes of its own (RFC 792, RFC 4443 3.1)."""
    if len(packet.payload) < 8 or packet.payload[0] != _UNREACHABLE[packet.number]:
        return None
    quoted = _split(packet.payload[8:])
    token = _token(quoted) if quoted else None
    return None if token is None else Refusal(token, packet.target, packet.payload[1])


def _answer(segment: bytes) -> Reset | None:
    """An answer acknowledges the sequence number after the one we sent. SYN-ACKs say nothing new."""
    if segment[_TCP_FLAGS] != RST | ACK:
        return None
    return Reset((TOKEN.unpack_from(segment, _TCP_ACKNOWLEDGED)[0] - 1) & 0xFFFFFFFF)


def _token(packet: _Packet) -> int | None:
    place = _TOKEN_PLACES.get(packet.number)
    if place is None or len(packet.payload) < place + TOKEN.size:
        return None
    token: int = TOKEN.unpack_from(packet.payload, place)[0]
    return token


def _port(packet: _Packet, place: int) -> int:
    return int.from_bytes(packet.payload[place : place + 2], "big")
