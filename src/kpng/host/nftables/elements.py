"""Elements of sets: encoding fast (a cluster has a few hundred thousand of them) and decoding dumps."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

from kpng.host.netlink import NLA_F_NESTED, attribute, attribute_map, attributes, nested, u32

from .expressions import LIST_ELEMENT, Verdict, data_value, data_verdict
from .messages import BODY_OFFSET, comment_userdata

_ELEMENTS = 3
_KEY = 1
_DATA = 2
_FLAGS = 3
_USERDATA = 6
_KEY_END = 10
_INTERVAL_END = 1
_VALUE = 1
_GENERIC_LENGTH = 4
_HEADER = struct.Struct("=HH")


def _header(kind: int, length: int) -> bytes:
    return _HEADER.pack(length + 4, kind)


def key_encoder(length: int) -> Callable[[bytes], bytes]:
    """An encoder for elements of a set whose keys are ``length`` bytes (a multiple of 4)."""
    value = _header(_VALUE, length)
    key = _header(_KEY | NLA_F_NESTED, length + 4)
    start = _header(LIST_ELEMENT | NLA_F_NESTED, length + 8) + key + value

    def encode(key: bytes) -> bytes:
        return start + key

    return encode


def pair_encoder(key_length: int, data_length: int) -> Callable[[bytes, bytes], bytes]:
    """An encoder for elements of a map; both lengths are multiples of 4."""
    start = (
        _header(LIST_ELEMENT | NLA_F_NESTED, key_length + data_length + 16)
        + _header(_KEY | NLA_F_NESTED, key_length + 4)
        + _header(_VALUE, key_length)
    )
    middle = _header(_DATA | NLA_F_NESTED, data_length + 4) + _header(_VALUE, data_length)

    def encode(key: bytes, data: bytes) -> bytes:
        return start + key + middle + data

    return encode


def verdict_element(key: bytes, verdict: Verdict, chain: str = "") -> bytes:
    return nested(LIST_ELEMENT, data_value(_KEY, key), data_verdict(_DATA, verdict, chain))


def commented_element(key: bytes, comment: str) -> bytes:
    return nested(LIST_ELEMENT, data_value(_KEY, key), attribute(_USERDATA, comment_userdata(comment)))


def range_element(first: bytes, last: bytes) -> bytes:
    """An element of a set of concatenated intervals; both keys are in it."""
    return nested(LIST_ELEMENT, data_value(_KEY, first), data_value(_KEY_END, last))


def interval_elements(first: bytes, last: bytes) -> Iterator[bytes]:
    """Elements of a set of intervals with keys of one field: where one begins, and the first key after it."""
    yield nested(LIST_ELEMENT, data_value(_KEY, first))
    after = int.from_bytes(last, "big") + 1
    if after < 1 << 8 * len(last):  # else it never ends
        end = data_value(_KEY, after.to_bytes(len(last), "big"))
        yield nested(LIST_ELEMENT, end, u32(_FLAGS, _INTERVAL_END))


def dumped_intervals(dumped: Iterable[DumpedElement]) -> Iterator[tuple[bytes, bytes]]:
    """The first and last keys of intervals from a dump of either kind of set."""
    begins: list[bytes] = []
    ends: list[bytes] = []
    for element in dumped:
        if element.last:
            yield element.key, element.last
        else:
            (ends if element.is_end else begins).append(element.key)
    ends = sorted(end for end in ends if any(end))  # nft itself marks that nothing comes before the first interval
    for place, first in enumerate(sorted(begins)):
        length = len(first)
        after = int.from_bytes(ends[place], "big") if place < len(ends) else 1 << 8 * length
        yield first, (after - 1).to_bytes(length, "big")


class DumpedElement:
    """An element as the kernel gave it. ``data`` is b"" in a set, ``chain`` the target in a verdict map.

    ``last`` is the other end of an interval in a concatenation, ``is_end`` whether it only ends an interval.
    """

    __slots__ = ("chain", "comment", "data", "is_end", "key", "last")

    def __init__(self, payload: bytes) -> None:
        found = attribute_map(payload)
        data = attribute_map(found.get(_DATA, b""))
        verdict = attribute_map(data.get(2, b""))
        comment = userdata_map(found.get(_USERDATA, b"")).get(0, b"")
        self.key = attribute_map(found[_KEY])[_VALUE]
        self.data = data.get(_VALUE, b"")
        self.last = attribute_map(found[_KEY_END])[_VALUE] if _KEY_END in found else b""
        self.is_end = bool(int.from_bytes(found.get(_FLAGS, b""), "big") & _INTERVAL_END)
        self.chain = verdict.get(2, b"").rstrip(b"\0").decode()
        self.comment = comment.rstrip(b"\0").decode(errors="replace")


def userdata_map(userdata: bytes) -> dict[int, bytes]:
    """Read user data: type and length in one byte each, then the value."""
    found = {}
    position = 0
    while position + 2 <= len(userdata):
        kind, length = userdata[position], userdata[position + 1]
        found[kind] = userdata[position + 2 : position + 2 + length]
        position += 2 + length
    return found


def dumped_elements(messages: Iterable[bytes]) -> Iterator[DumpedElement]:
    """The elements in the answers to a dump of one set."""
    for listed in _lists(messages):
        yield from map(DumpedElement, _payloads(listed))


def dumped_pairs(messages: Iterable[bytes], key_length: int, data_length: int = 0) -> dict[bytes, bytes]:
    """Keys and data alone, in a fifth of the time: elements that have nothing else look all alike."""
    frame = _frame(key_length, data_length)
    record = struct.Struct(
        f"={len(frame[0])}s{key_length}s" + (f"{len(frame[1])}s{data_length}s" if data_length else "")
    )
    found: dict[bytes, bytes] = {}
    for listed in _lists(messages):
        records = list(record.iter_unpack(listed)) if len(listed) % record.size == 0 else []
        if {each[::2] for each in records} == {frame}:
            found.update(
                ((each[1], each[3]) for each in records) if data_length else ((e[1], b"") for e in records)
            )
        else:
            found.update((element.key, element.data) for element in map(DumpedElement, _payloads(listed)))
    return found


def _frame(key_length: int, data_length: int) -> tuple[bytes, ...]:
    """What the kernel writes around the key, and between it and the data."""
    size = key_length + 12 + (data_length + 8 if data_length else 0)
    before = _header(LIST_ELEMENT, size - 4) + _header(_KEY, key_length + 4) + _header(_VALUE, key_length)
    between = _header(_DATA, data_length + 4) + _header(_VALUE, data_length)
    return (before, between) if data_length else (before,)


def _lists(messages: Iterable[bytes]) -> Iterator[bytes]:
    for payload in messages:
        yield from (value for kind, value, _ in attributes(payload, _GENERIC_LENGTH) if kind == _ELEMENTS)


def _payloads(listed: bytes) -> Iterator[bytes]:
    return (payload for _, payload, _ in attributes(listed))


def element_at(message: bytes, offset: int) -> bytes | None:
    """The key of the element that an error's offset points at, or None if it points elsewhere."""
    for kind, value, start in attributes(message, BODY_OFFSET):
        if kind != _ELEMENTS:
            continue
        inside = offset - start - 4
        for _, element, position in attributes(value):
            if position <= inside < position + 4 + len(element):
                return attribute_map(attribute_map(element)[_KEY])[_VALUE]
    return None
