"""Messages of connection tracking (linux/netfilter/nfnetlink_conntrack.h): encoded and decoded, no I/O.

A *socket address* is an IP address in network order and a port: 6 bytes for IPv4, 18 for IPv6. So it is compared
and looked up as it comes from the kernel, which counts where there are 100,000 flows.
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum
from typing import NamedTuple

from kpng.host.netlink import Flag, attribute, attribute_map, message, nested, u32

UDP = socket.IPPROTO_UDP

_SUBSYSTEM = 1 << 8
"""NFNL_SUBSYS_CTNETLINK, in the upper half of a message's type."""
_GENERIC = struct.Struct(">BBH")
"""struct nfgenmsg: family, version, resource."""
_VERSION = 0


class Kind(IntEnum):
    """Kinds of messages (enum cntl_msg_types)."""

    NEW = _SUBSYSTEM
    GET = _SUBSYSTEM | 1
    DELETE = _SUBSYSTEM | 2


class Attribute(IntEnum):
    """Attributes of a flow (enum ctattr_type), as far as used here."""

    TUPLE_ORIGINAL = 1
    TUPLE_REPLY = 2
    STATUS = 3
    TIMEOUT = 7
    ID = 12
    ZONE = 18
    FILTER = 25


class _Tuple(IntEnum):
    """Parts of a tuple (enum ctattr_tuple)."""

    IP = 1
    PROTOCOL = 2


class _Filter(IntEnum):
    """What of the tuple in a request counts (CTA_FILTER_F_* of nf_internals.h)."""

    SOURCE = 1 << 0
    DESTINATION = 1 << 1
    PROTOCOL = 1 << 3
    SOURCE_PORT = 1 << 4
    DESTINATION_PORT = 1 << 5


_ADDRESS_SIZE = {socket.AF_INET: 4, socket.AF_INET6: 16}
_NUMBER = struct.Struct("=I")
_IP_SOURCE = {socket.AF_INET: 1, socket.AF_INET6: 3}
_IP_DESTINATION = {socket.AF_INET: 2, socket.AF_INET6: 4}
_PROTOCOL_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_ORIGINAL_FLAGS, _REPLY_FLAGS = 1, 2


def socket_address(address: str, port: int) -> bytes:
    """A socket address from its parts. Raises `OSError` if ``address`` is none."""
    return socket.inet_pton(_family_of(address), address) + port.to_bytes(2, "big")


def _family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def family(address: bytes) -> socket.AddressFamily:
    """The family of a socket address."""
    return socket.AF_INET if len(address) == 6 else socket.AF_INET6


class Query(NamedTuple):
    """Which flows of one family and protocol are asked for: all, or those whose first packet went to ``address``
    (none: any) and ``port`` (0: any), or those answered by a socket address (none: any)."""

    family: socket.AddressFamily
    protocol: int = UDP
    address: bytes = b""
    port: int = 0
    answered_by: bytes = b""

    def names(self, flow: Flow) -> bool:
        """Whether ``flow`` is asked for. The family is not looked at: no kernel mixes them."""
        if flow.protocol != self.protocol:
            return False
        if self.answered_by and flow.reply_source != self.answered_by:
            return False
        if self.port and flow.destination[-2:] != self.port.to_bytes(2, "big"):
            return False
        return not self.address or flow.destination[:-2] == self.address


class Flow(NamedTuple):
    """A tracked flow: where its first packet went, and who answers.

    Both are the same if nobody translates the destination. ``message`` is the kernel's own, to name the flow by.
    """

    protocol: int
    destination: bytes
    reply_source: bytes
    message: bytes


def get_flows(query: Query, *, filtered: bool = True) -> bytes:
    """Ask for all flows that ``query`` names. Kernels before 5.8 know no filter and answer with all there are, as
    every kernel does without ``filtered``."""
    return _message(Kind.GET, Flag.DUMP, query.family, _filter(query) if filtered else b"")


def delete_flow(flow: Flow) -> bytes:
    """Remove the flow that was seen, by its tuple and its ID.

    A later flow between the same ends has another ID, unless the kernel put it at the very same place in memory
    (nf_ct_get_id). Then it goes too, and its next packet makes it anew.
    """
    found = attribute_map(flow.message, _GENERIC.size)
    parts = [nested(Attribute.TUPLE_ORIGINAL, found[Attribute.TUPLE_ORIGINAL])]
    parts += (attribute(kind, found[kind]) for kind in (Attribute.ZONE, Attribute.ID) if kind in found)
    return _message(Kind.DELETE, 0, flow.message[0], b"".join(parts))


def new_flow(protocol: int, original: tuple[bytes, bytes], reply: tuple[bytes, bytes], status: int) -> bytes:
    """Make a flow of two (source, destination) tuples that nobody sent: a table to test with.

    Its timeout is an hour; ``status`` is IPS_... of nf_conntrack_common.h.
    """
    body = (
        _tuple(Attribute.TUPLE_ORIGINAL, protocol, *original),
        _tuple(Attribute.TUPLE_REPLY, protocol, *reply),
        u32(Attribute.STATUS, status),
        u32(Attribute.TIMEOUT, 3600),
    )
    return _message(Kind.NEW, Flag.CREATE | Flag.EXCLUSIVE, family(original[0]), b"".join(body))


def _message(kind: Kind, flags: int, address_family: int, body: bytes) -> bytes:
    return message(kind, flags, _GENERIC.pack(address_family, _VERSION, 0) + body)


def _filter(query: Query) -> bytes:
    """Tuples to compare with, and what of each counts. The kernel reads whole tuples, so they are filled up.

    IPv6 addresses are not filtered by, only ports: there Linux (seen in 6.18) finds all flows but those with the
    address, for ctnetlink_filter_match_tuple takes the 0 of ipv6_addr_cmp for a difference.
    """
    by_address = query.family == socket.AF_INET
    nowhere = bytes(_ADDRESS_SIZE[query.family] + 2)
    destination = (query.address or nowhere[:-2]) + query.port.to_bytes(2, "big")
    original = _Filter.PROTOCOL | (_Filter.DESTINATION_PORT if query.port else 0)
    original |= _Filter.DESTINATION if query.address and by_address else 0
    parts = [_tuple(Attribute.TUPLE_ORIGINAL, query.protocol, nowhere, destination)]
    reply = 0
    if query.answered_by:
        parts.append(_tuple(Attribute.TUPLE_REPLY, query.protocol, query.answered_by, nowhere))
        reply = _Filter.PROTOCOL | _Filter.SOURCE_PORT | (_Filter.SOURCE if by_address else 0)
    counting = attribute(_ORIGINAL_FLAGS, _NUMBER.pack(original)) + attribute(_REPLY_FLAGS, _NUMBER.pack(reply))
    return b"".join((*parts, nested(Attribute.FILTER, counting)))


def _tuple(kind: Attribute, protocol: int, source: bytes, destination: bytes) -> bytes:
    its = family(destination)
    addresses = attribute(_IP_SOURCE[its], source[:-2]) + attribute(_IP_DESTINATION[its], destination[:-2])
    ports = attribute(_SOURCE_PORT, source[-2:]) + attribute(_DESTINATION_PORT, destination[-2:])
    number = attribute(_PROTOCOL_NUMBER, bytes([protocol]))
    return nested(kind, nested(_Tuple.IP, addresses), nested(_Tuple.PROTOCOL, number, ports))


class _Layout:
    """Where things stand in the kernel's messages for protocols that have ports (ctnetlink_fill_info): the tuple
    of the first packet, then that of the reply. It is read at once, in a fifth of the time of a walk."""

    def __init__(self, address_family: socket.AddressFamily) -> None:
        size = 4 if address_family == socket.AF_INET else 16
        walked = f"{4 + size}x4x{size}s8xB3x8x4x2s2x"  # source, destination; protocol, its number; two ports
        reply = f"4x{size}s{4 + size}x8x4x4x2s"
        self._struct = struct.Struct(f"=4x8s{walked}8s{reply}")
        addresses = 4 + 2 * (4 + size)
        self._heads = tuple(
            struct.pack("=HHHH", 4 + addresses + 28, 0x8000 | kind, addresses, 0x8000 | _Tuple.IP)
            for kind in (Attribute.TUPLE_ORIGINAL, Attribute.TUPLE_REPLY)
        )

    def read(self, payload: bytes) -> Flow | None:
        """None if the message is built in another way (a zone within a tuple, a protocol without ports)."""
        if len(payload) < self._struct.size:
            return None
        head, destination, protocol, port, reply_head, source, source_port = self._struct.unpack_from(payload)
        if (head, reply_head) != self._heads:
            return None
        return Flow(protocol, destination + port, source + source_port, payload)


_LAYOUTS = {int(address_family): _Layout(address_family) for address_family in _IP_SOURCE}


def read_flow(payload: bytes) -> Flow | None:
    """The flow in an answer; None if it has no ports."""
    layout = _LAYOUTS.get(payload[0]) if payload else None
    return (layout.read(payload) or _walk(payload)) if layout else None


def _walk(payload: bytes) -> Flow | None:
    address_family = socket.AddressFamily(payload[0])
    found = attribute_map(payload, _GENERIC.size)
    original = _parts(found.get(Attribute.TUPLE_ORIGINAL, b""))
    reply = _parts(found.get(Attribute.TUPLE_REPLY, b""))
    try:
        protocol = original[_Tuple.PROTOCOL][_PROTOCOL_NUMBER][0]
        destination = original[_Tuple.IP][_IP_DESTINATION[address_family]]
        source = reply[_Tuple.IP][_IP_SOURCE[address_family]]
        ports = original[_Tuple.PROTOCOL][_DESTINATION_PORT], reply[_Tuple.PROTOCOL][_SOURCE_PORT]
    except (KeyError, IndexError):
        return None
    return Flow(protocol, destination + ports[0], source + ports[1], payload)


def _parts(payload: bytes) -> dict[int, dict[int, bytes]]:
    return {kind: attribute_map(value) for kind, value in attribute_map(payload).items()}
