"""Fields: what keys and data of sets are made of, and what rules read from packets.

A field knows both its spelling in nft and its netlink form, so that one plan gives both.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable, Sequence

from msgspec import Struct

from kpng.host.nftables import expressions, typeof
from kpng.host.nftables.expressions import Base, Ct, Meta
from kpng.host.nftables.messages import padded
from kpng.model import Family

_PROTOCOL_NAMES = {6: "tcp", 17: "udp", 132: "sctp"}
_HOST_U32 = struct.Struct("=I")
_INDEX_MODULUS = 65536
"""Only part of the declared type of an index; the rules say the real modulus."""


class Field(Struct, frozen=True):
    """``text`` is nft's spelling, ``datatype`` and ``typeof`` how nft knows its type, ``length`` in bytes.

    ``load`` gives the expression that reads it into a register, ``show`` a value's text.
    """

    text: str
    datatype: int
    length: int
    load: Callable[[int], bytes]
    show: Callable[[bytes], str]
    typeof: bytes = b""
    host_order: bool = False


Key = tuple[Field, ...]


def _show_address(value: bytes) -> str:
    return str(ipaddress.ip_address(value))


def _show_protocol(value: bytes) -> str:
    return _PROTOCOL_NAMES.get(value[0], str(value[0]))


def _show_port(value: bytes) -> str:
    return str(int.from_bytes(value, "big"))


def _show_number(value: bytes) -> str:
    return str(_HOST_U32.unpack(value)[0])


def _show_mark(value: bytes) -> str:
    return f"0x{_HOST_U32.unpack(value)[0]:08x}"


def _address(family: Family, text: str, place: int, load: Callable[[int], bytes]) -> Field:
    """``place`` is the field's row in nft's tables of the IP headers (proto_ip, proto_ip6)."""
    if family is Family.IPV4:
        shown = typeof.payload(typeof.Header.IPV4, place)
        return Field(f"ip {text}", 7, 4, load, _show_address, shown)
    shown = typeof.payload(typeof.Header.IPV6, place)
    return Field(f"ip6 {text}", 8, 16, load, _show_address, shown)


def destination(family: Family) -> Field:
    offset, length, place = (16, 4, 12) if family is Family.IPV4 else (24, 16, 9)
    return _address(family, "daddr", place, lambda r: expressions.payload(r, Base.NETWORK, offset, length))


def source(family: Family) -> Field:
    offset, length, place = (12, 4, 11) if family is Family.IPV4 else (8, 16, 8)
    return _address(family, "saddr", place, lambda r: expressions.payload(r, Base.NETWORK, offset, length))


def original_destination(family: Family) -> Field:
    """Where the connection was going before DNAT."""
    v4 = family is Family.IPV4
    key = Ct.DST_IP if v4 else Ct.DST_IP6
    name = "ct original ip daddr" if v4 else "ct original ip6 daddr"
    return Field(name, 7 if v4 else 8, 4 if v4 else 16, lambda r: expressions.ct_original(r, key), _show_address)


L4PROTO = Field(
    "meta l4proto",
    12,
    1,
    lambda r: expressions.meta(r, Meta.L4PROTO),
    _show_protocol,
    typeof.meta(Meta.L4PROTO),
)
DPORT = Field(
    "th dport",
    13,
    2,
    lambda r: expressions.payload(r, Base.TRANSPORT, 2, 2),
    _show_port,
    typeof.payload(typeof.Header.TRANSPORT, 2),
)
ORIGINAL_DPORT = Field(
    "ct original proto-dst", 13, 2, lambda r: expressions.ct_original(r, Ct.PROTO_DST), _show_port
)
MARK = Field(
    "meta mark",
    19,
    4,
    lambda r: expressions.meta(r, Meta.MARK),
    _show_mark,
    typeof.meta(Meta.MARK),
    host_order=True,
)


def random_index(count: int = _INDEX_MODULUS) -> Field:
    """A random number below ``count``: the place of an endpoint in a service's list."""
    return Field(
        f"numgen random mod {count}",
        4,
        4,
        lambda r: expressions.random_number(r, count),
        _show_number,
        typeof.random_number(count),
    )


def key_text(key: Key) -> str:
    return " . ".join(field.text for field in key)


def registers(key: Sequence[Field]) -> int:
    """How many 32-bit registers a key takes."""
    return sum(padded(field.length) // 4 for field in key)


def load(key: Key, register: int) -> list[bytes]:
    """Expressions that read the fields of a key into consecutive registers."""
    loads = []
    for field in key:
        loads.append(field.load(register))
        register += padded(field.length) // 4
    return loads


def show(key: Key, value: bytes) -> str:
    """A key's (or data's) value as nft writes it."""
    shown, position = [], 0
    for field in key:
        shown.append(field.show(value[position : position + field.length]))
        position += padded(field.length)
    return " . ".join(shown)


def datatype(key: Key) -> int:
    """nft's number for a concatenation: six bits for each field."""
    number = 0
    for field in key:
        number = number << 6 | field.datatype
    return number


def pack_address(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
