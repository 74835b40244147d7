"""What the kernel's connection tracking knows: how it translated the connections that nobody saw leave."""

from __future__ import annotations

import socket
import struct

from msgspec import Struct

from kpng.host.netlink import Flag, NetfilterSocket, NetlinkError, attribute_map, message

from .packets import NUMBERS

_GET, _DELETE = 0x0101, 0x0102
"""Subsystem 1 (ctnetlink), messages 1 and 2 (linux/netfilter/nfnetlink_conntrack.h)."""
_HEADER = struct.pack("!BBH", socket.AF_UNSPEC, 0, 0)
_ORIGINAL, _REPLY = 1, 2
_ADDRESSES, _PROTOCOL = 1, 2
_SOURCES, _TARGETS = (1, 3), (2, 4)
_NUMBER, _SOURCE_PORT, _TARGET_PORT = 1, 2, 3
_NAMES = {number: name for name, number in NUMBERS.items()}


class Direction(Struct, frozen=True):
    """The packets of a connection in one direction: (address, port) of both ends."""

    protocol: str
    source: tuple[str, int]
    target: tuple[str, int]


class Tracking:
    """Connection tracking in the namespace of the thread that makes it."""

    def __init__(self) -> None:
        self._socket = NetfilterSocket()

    def replies(self) -> dict[Direction, Direction]:
        """What each connection looked like when it began, and what its answers look like."""
        found = {}
        for payload in self._socket.dump(message(_GET, Flag.DUMP, _HEADER)):
            fields = attribute_map(payload, len(_HEADER))
            begun, answered = _direction(fields.get(_ORIGINAL, b"")), _direction(fields.get(_REPLY, b""))
            if begun and answered:
                found[begun] = answered
        return found

    def forget(self) -> None:
        """Drop all connections."""
        try:
            self._socket.request(message(_DELETE, Flag.ACK, _HEADER))
        except NetlinkError as error:
            if error.errno:  # 0: done
                raise

    def close(self) -> None:
        self._socket.close()


def _direction(tuple_: bytes) -> Direction | None:
    fields = attribute_map(tuple_)
    addresses, protocol = attribute_map(fields.get(_ADDRESSES, b"")), attribute_map(fields.get(_PROTOCOL, b""))
    name = _NAMES.get(int.from_bytes(protocol.get(_NUMBER, b""), "big"))
    if name is None:
        return None
    source, target = (
        next(addresses[kind] for kind in kinds if kind in addresses) for kinds in (_SOURCES, _TARGETS)
    )
    return Direction(
        name, (_text(source), _port(protocol, _SOURCE_PORT)), (_text(target), _port(protocol, _TARGET_PORT))
    )


def _text(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _port(fields: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(fields[kind], "big")
