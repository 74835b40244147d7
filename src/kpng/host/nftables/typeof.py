"""User data of sets that lets ``nft list`` show them as ``typeof`` (libnftnl/udata.h, nftables src/expression).

The kernel only stores it. Without it nft 1.0.6 shows numbers in the wrong byte order, and aborts on keys
that have a plain integer. Type, length and value, nested; numbers are in the host's byte order.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum

_KEY_BYTE_ORDER = 0
_DATA_BYTE_ORDER = 1
_KEY_TYPEOF = 3
_DATA_TYPEOF = 4
_PAYLOAD = 7
_META = 9
_CONCATENATION = 13
_NUMGEN = 23
HOST_BYTE_ORDER = 1


class Header(IntEnum):
    """Protocol descriptions of nft (enum proto_desc_id)."""

    TRANSPORT = 11
    IPV4 = 12
    IPV6 = 13


def _value(kind: int, value: bytes) -> bytes:
    return bytes((kind, len(value))) + value


def _number(kind: int, number: int) -> bytes:
    return _value(kind, struct.pack("=I", number))


def _typeof(expression: int, *details: bytes) -> bytes:
    return _number(0, expression) + _value(1, b"".join(details))


def payload(header: Header, field: int) -> bytes:
    """A field of a packet by its place in nft's table of the header's fields."""
    return _typeof(_PAYLOAD, _number(0, header), _number(1, field))


def meta(key: int) -> bytes:
    return _typeof(_META, _number(0, key))


def random_number(modulus: int) -> bytes:
    return _typeof(_NUMGEN, _number(0, 1), _number(1, modulus), _number(2, 0))


def _joined(fields: Sequence[bytes]) -> bytes:
    if len(fields) == 1:
        return fields[0]
    return _typeof(_CONCATENATION, *(_value(place, field) for place, field in enumerate(fields)))


def set_userdata(
    key: Sequence[bytes], data: Sequence[bytes] = (), *, host_order_key: bool = False, host_order_data: bool = False
) -> bytes:
    """User data for a set of these fields; empty ``data`` for a set or a verdict map."""
    found = _number(_KEY_BYTE_ORDER, HOST_BYTE_ORDER if host_order_key else 0)
    if data:
        found += _number(_DATA_BYTE_ORDER, HOST_BYTE_ORDER if host_order_data else 0)
    found += _value(_KEY_TYPEOF, _joined(key))
    return found + (_value(_DATA_TYPEOF, _joined(data)) if data else b"")
