"""Messages: tables, chains, rules, sets and elements (nf_tables.h), each encoded without a sequence number."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum, IntFlag

from kpng.host.netlink import Flag, attribute, message, nested, string, u32, u64

SUBSYSTEM = 10
_NFNL_MSG_BATCH_BEGIN = 16
_NFNL_MSG_BATCH_END = 17
_GENERIC = struct.Struct("=BBH")
"""struct nfgenmsg: family, version, resource id."""
BODY_OFFSET = 16 + _GENERIC.size
"""Where attributes begin in a message: after nlmsghdr and nfgenmsg."""

VERDICT_TYPE = 0xFFFFFF00
_LARGEST_ELEMENT_LIST = 60_000
"""One attribute is at most 64 KiB long, and so is the list of elements in one message."""


class Kind(IntEnum):
    """Types of messages."""

    NEW_TABLE = 0
    GET_TABLE = 1
    DELETE_TABLE = 2
    NEW_CHAIN = 3
    GET_CHAIN = 4
    DELETE_CHAIN = 5
    NEW_RULE = 6
    GET_RULE = 7
    DELETE_RULE = 8
    NEW_SET = 9
    GET_SET = 10
    DELETE_SET = 11
    NEW_ELEMENTS = 12
    GET_ELEMENTS = 13
    DELETE_ELEMENTS = 14
    NEW_GENERATION = 15
    GET_GENERATION = 16


class Family(IntEnum):
    IPV4 = socket.AF_INET
    IPV6 = socket.AF_INET6


class TableFlag(IntFlag):
    """OWNER: only the owning socket may change the table, a foreign ``flush ruleset`` spares it (Linux 5.12).
    PERSIST: it outlives its owner (Linux 6.9)."""

    NONE = 0
    OWNER = 2
    PERSIST = 4


class SetFlag(IntFlag):
    NONE = 0
    INTERVAL = 0x4
    MAP = 0x8
    TIMEOUT = 0x10
    DYNAMIC = 0x20
    CONCATENATION = 0x80


class Hook(IntEnum):
    PREROUTING = 0
    INPUT = 1
    FORWARD = 2
    OUTPUT = 3
    POSTROUTING = 4


def _message(kind: int, family: int, body: bytes, flags: int = 0) -> bytes:
    return message(SUBSYSTEM << 8 | kind, flags, _GENERIC.pack(family, 0, 0) + body)


def batch_begin() -> bytes:
    return message(_NFNL_MSG_BATCH_BEGIN, 0, _GENERIC.pack(0, 0, socket.htons(SUBSYSTEM)))


def batch_end() -> bytes:
    return message(_NFNL_MSG_BATCH_END, 0, _GENERIC.pack(0, 0, socket.htons(SUBSYSTEM)))


def get_generation() -> bytes:
    return _message(Kind.GET_GENERATION, 0, b"")


def dump_request(kind: Kind, family: Family, table: str = "", name: str = "") -> bytes:
    """Ask for everything of a kind; ``name`` is a set's for elements, a chain's for rules."""
    body = (string(1, table) if table else b"") + (string(2, name) if name else b"")
    return _message(kind, family, body, Flag.DUMP)


def get_table(family: Family, table: str) -> bytes:
    return _message(Kind.GET_TABLE, family, string(1, table))


def new_table(family: Family, table: str, flags: TableFlag = TableFlag.NONE) -> bytes:
    return _message(Kind.NEW_TABLE, family, string(1, table) + u32(2, flags), Flag.CREATE)


def delete_table(family: Family, table: str) -> bytes:
    return _message(Kind.DELETE_TABLE, family, string(1, table))


def new_chain(family: Family, table: str, chain: str) -> bytes:
    return _message(Kind.NEW_CHAIN, family, string(1, table) + string(3, chain), Flag.CREATE)


def new_base_chain(family: Family, table: str, chain: str, kind: str, hook: Hook, priority: int) -> bytes:
    where = nested(4, u32(1, hook), u32(2, priority))
    body = string(1, table) + string(3, chain) + where + string(7, kind)
    return _message(Kind.NEW_CHAIN, family, body, Flag.CREATE)


def delete_chain(family: Family, table: str, chain: str) -> bytes:
    return _message(Kind.DELETE_CHAIN, family, string(1, table) + string(3, chain))


def new_rule(family: Family, table: str, chain: str, expressions: Iterable[bytes], comment: str = "") -> bytes:
    body = string(1, table) + string(2, chain) + nested(4, *expressions)
    if comment:
        body += attribute(7, comment_userdata(comment))
    return _message(Kind.NEW_RULE, family, body, Flag.CREATE | Flag.APPEND)


def delete_rules(family: Family, table: str, chain: str = "") -> bytes:
    """Delete all rules of a chain, or of the whole table."""
    return _message(Kind.DELETE_RULE, family, string(1, table) + (string(2, chain) if chain else b""))


def comment_userdata(text: str) -> bytes:
    """A comment as nft keeps it: user data of a rule or an element (libnftnl/udata.h, type 0)."""
    encoded = text.encode()[:254] + b"\0"
    return bytes((0, len(encoded))) + encoded


def new_set(
    family: Family,
    table: str,
    name: str,
    identifier: int,
    *,
    key_type: int,
    key_lengths: Sequence[int],
    data_type: int | None = None,
    data_length: int = 0,
    flags: SetFlag = SetFlag.NONE,
    size: int = 0,
    timeout_milliseconds: int = 0,
    userdata: bytes = b"",
) -> bytes:
    """A set, or with ``data_type`` a map. ``key_lengths`` are the lengths of the concatenated fields.

    ``identifier`` must differ from that of every other set made in the same transaction.
    """
    total = sum(padded(length) for length in key_lengths) if len(key_lengths) > 1 else key_lengths[0]
    description = u32(1, size) if size else b""
    if len(key_lengths) > 1:
        flags |= SetFlag.CONCATENATION
        description += nested(2, *(nested(1, u32(1, length)) for length in key_lengths))
    if data_type is not None:
        flags |= SetFlag.MAP
    parts = [string(1, table), string(2, name), u32(3, flags), u32(4, key_type), u32(5, total)]
    if data_type is not None:
        parts += [u32(6, data_type), u32(7, data_length)]
    if description:
        parts.append(nested(9, description))
    parts.append(u32(10, identifier))
    if timeout_milliseconds:
        parts.append(u64(11, timeout_milliseconds))
    if userdata:
        parts.append(attribute(13, userdata))
    return _message(Kind.NEW_SET, family, b"".join(parts), Flag.CREATE)


def padded(length: int) -> int:
    """The length of a field within registers, which are 32 bits wide."""
    return (length + 3) & ~3


def delete_set(family: Family, table: str, name: str) -> bytes:
    return _message(Kind.DELETE_SET, family, string(1, table) + string(2, name))


def new_elements(family: Family, table: str, name: str, elements: Iterable[bytes]) -> Iterator[bytes]:
    """Messages that add encoded elements (see elements.py). An element that is there already with the same data
    is no error; with other data it is (EEXIST): delete it first, in the same transaction."""
    return _element_messages(Kind.NEW_ELEMENTS, family, table, name, elements, Flag.CREATE)


def delete_elements(family: Family, table: str, name: str, elements: Iterable[bytes]) -> Iterator[bytes]:
    """Messages that delete elements, given encoded with or without data. One that is not there is an error."""
    return _element_messages(Kind.DELETE_ELEMENTS, family, table, name, elements, 0)


def _element_messages(
    kind: Kind, family: Family, table: str, name: str, elements: Iterable[bytes], flags: int
) -> Iterator[bytes]:
    head = string(1, table) + string(2, name)
    for chunk in _chunks(elements):
        yield _message(kind, family, head + nested(3, *chunk), flags)


def _chunks(elements: Iterable[bytes]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    length = 0
    for element in elements:
        if length + len(element) > _LARGEST_ELEMENT_LIST:
            yield chunk
            chunk, length = [], 0
        chunk.append(element)
        length += len(element)
    if chunk:
        yield chunk
