"""What the kernel's connection tracking knows: how it translated the connections that nobody saw leave."""

from __future__ import annotations

import errno
import socket
import struct

from msgspec import Struct

from kpng.host.netlink import Flag, NetfilterSocket, NetlinkError, attribute, attribute_map, message, nested

from .packets import NUMBERS

_GET, _DELETE = 0x0101, 0x0102
"""Subsystem 1 (ctnetlink), messages 1 and 2 (linux/netfilter/nfnetlink_conntrack.h)."""
_HEADER = struct.Struct("!BBH")
_ORIGINAL, _REPLY = 1, 2
_ADDRESSES, _PROTOCOL = 1, 2
_SOURCES, _TARGETS = (1, 3), (2, 4)
"""Kinds of attributes: IPv4, IPv6."""
_NUMBER, _SOURCE_PORT, _TARGET_PORT = 1, 2, 3


class Direction(Struct, frozen=True):
    """The packets of a connection in one direction: (address, port) of both ends."""

    protocol: str
    source: tuple[str, int]
    target: tuple[str, int]


class Tracking:
    """Connection tracking in the namespace of the thread that makes it."""

    def __init__(self) -> None:
        self._socket = NetfilterSocket()

    def reply(self, begun: Direction) -> Direction | None:
        """What the answers to a connection look like that began so; None if it is not known."""
        family = _family(begun.source[0])
        request = message(_GET, Flag(0), _HEADER.pack(family, 0, 0) + _tuple(begun))
        try:
            answer = self._socket.request(request)
        except NetlinkError as error:
            if error.errno != errno.ENOENT:
                raise
            return None
        fields = attribute_map(answer, _HEADER.size)
        return _direction(begun.protocol, fields[_REPLY])

    def forget(self) -> None:
        """Drop all connections."""
        try:
            self._socket.request(message(_DELETE, Flag.ACK, _HEADER.pack(socket.AF_UNSPEC, 0, 0)))
        except NetlinkError as error:
            if error.errno:  # 0: done
                raise

    def close(self) -> None:
        self._socket.close()


def _tuple(direction: Direction) -> bytes:
    (source, source_port), (target, target_port) = direction.source, direction.target
    family = _family(source)
    kind = 0 if family == socket.AF_INET else 1
    return nested(
        _ORIGINAL,
        nested(
            _ADDRESSES,
            attribute(_SOURCES[kind], socket.inet_pton(family, source)),
            attribute(_TARGETS[kind], socket.inet_pton(family, target)),
        ),
        nested(
            _PROTOCOL,
            attribute(_NUMBER, bytes([NUMBERS[direction.protocol]])),
            attribute(_SOURCE_PORT, source_port.to_bytes(2, "big")),
            attribute(_TARGET_PORT, target_port.to_bytes(2, "big")),
        ),
    )


def _direction(protocol: str, payload: bytes) -> Direction:
    fields = attribute_map(payload)
    addresses, ports = attribute_map(fields[_ADDRESSES]), attribute_map(fields[_PROTOCOL])
    source, target = (_address(addresses, kinds) for kinds in (_SOURCES, _TARGETS))
    return Direction(protocol, (source, _port(ports, _SOURCE_PORT)), (target, _port(ports, _TARGET_PORT)))


def _address(fields: dict[int, bytes], kinds: tuple[int, int]) -> str:
    v4, v6 = kinds
    if v4 in fields:
        return socket.inet_ntop(socket.AF_INET, fields[v4])
    return socket.inet_ntop(socket.AF_INET6, fields[v6])


def _port(fields: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(fields[kind], "big")


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
