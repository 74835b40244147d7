"""Building packets: the first of a TCP, UDP or SCTP connection, each with a token to know it by.

The token is what address translation leaves alone: TCP's sequence number (RFC 9293), the first bytes of UDP's
payload, SCTP's initiate tag (RFC 9260 3.3.2).
"""

from __future__ import annotations

import struct
from ipaddress import ip_address

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
NUMBERS = {"tcp": TCP, "udp": UDP, "sctp": SCTP}

SYN, RST, ACK = 0x02, 0x04, 0x10

_PORTS = struct.Struct("!HH")
_TCP_REST = struct.Struct("!IIBBHHH")
_UDP_REST = struct.Struct("!HH")
TOKEN = struct.Struct("!I")
_CRC32C_POLYNOMIAL = 0x82F63B78


def build(protocol: str, source: tuple[str, int], target: tuple[str, int], token: int) -> bytes:
    """The packet that opens a connection; ``source`` and ``target`` are (address, port)."""
    number = NUMBERS[protocol]
    sender, receiver = ip_address(source[0]).packed, ip_address(target[0]).packed
    ports = _PORTS.pack(source[1], target[1])
    segment = _SEGMENTS[number](ports, token)
    if number == SCTP:
        segment = segment[:8] + struct.pack("<I", crc32c(segment)) + segment[12:]
    else:
        place = _CHECKSUM_PLACES[number]
        summed = checksum(_pseudo_header(sender, receiver, number, len(segment)) + segment)
        segment = segment[:place] + struct.pack("!H", summed or 0xFFFF) + segment[place + 2 :]
    return _header(sender, receiver, number, len(segment)) + segment


def _tcp(ports: bytes, token: int) -> bytes:
    return ports + _TCP_REST.pack(token, 0, 5 << 4, SYN, 65535, 0, 0)


def _udp(ports: bytes, token: int) -> bytes:
    return ports + _UDP_REST.pack(8 + TOKEN.size, 0) + TOKEN.pack(token)


def _sctp(ports: bytes, token: int) -> bytes:
    """An INIT chunk: tag, window, one stream each way, first sequence number."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, token, 65535, 1, 1, token)
    return ports + struct.pack("!II", 0, 0) + chunk


_SEGMENTS = {TCP: _tcp, UDP: _udp, SCTP: _sctp}
_CHECKSUM_PLACES = {TCP: 16, UDP: 6}


def checksum(content: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    padded = content + b"\0" * (len(content) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def crc32c(content: bytes) -> int:
    """SCTP's checksum (RFC 9260, appendix A)."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _crc32c_entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (_CRC32C_POLYNOMIAL if value & 1 else 0)
    return value


_CRC32C = tuple(map(_crc32c_entry, range(256)))


def _pseudo_header(sender: bytes, receiver: bytes, number: int, length: int) -> bytes:
    if len(sender) == 16:
        return sender + receiver + struct.pack("!IHBB", length, 0, 0, number)
    return sender + receiver + struct.pack("!BBH", 0, number, length)


def _header(sender: bytes, receiver: bytes, number: int, length: int) -> bytes:
    if len(sender) == 16:
        return struct.pack("!IHBB", 6 << 28, length, number, 64) + sender + receiver
    start = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, number, 0) + sender + receiver
    return start[:10] + struct.pack("!H", checksum(start)) + start[12:]
