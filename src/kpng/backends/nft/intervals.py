"""Intervals: what CIDRs are in sets. An interval's key is its first and its last key, one after the other."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache

from kpng.host.nftables.messages import padded
from kpng.model import Family

from .fields import Field, Key, pack_address

Interval = tuple[bytes, bytes]
"""The first and the last address."""

_LENGTHS = {Family.IPV4: 4, Family.IPV6: 16}


@lru_cache(maxsize=1024)
def intervals(cidrs: tuple[str, ...], family: Family) -> tuple[Interval, ...]:
    """Addresses and CIDRs of a family as the fewest intervals, in order: the kernel refuses what overlaps."""
    networks = sorted(ipaddress.ip_network(cidr) for cidr in cidrs if (":" in cidr) == (family is Family.IPV6))
    found: list[list[int]] = []
    for network in networks:
        first, last = int(network.network_address), int(network.broadcast_address)
        if found and first <= found[-1][1] + 1:
            found[-1][1] = max(last, found[-1][1])
        else:
            found.append([first, last])
    return tuple(_packed(first, last, family) for first, last in found)


def outside(inside: Sequence[Interval], family: Family) -> list[Interval]:
    """What lies between intervals, before and after them."""
    found, begin, end = [], 0, (1 << 8 * _LENGTHS[family]) - 1
    for first, last in inside:
        if begin < int.from_bytes(first, "big"):
            found.append(_packed(begin, int.from_bytes(first, "big") - 1, family))
        begin = int.from_bytes(last, "big") + 1
    return [*found, _packed(begin, end, family)] if begin <= end else found


def contains(found: Iterable[Interval], address: str) -> bool:
    packed = pack_address(address)
    return any(first <= packed <= last for first, last in found)


def _packed(first: int, last: int, family: Family) -> Interval:
    length = _LENGTHS[family]
    return first.to_bytes(length, "big"), last.to_bytes(length, "big")


def interval_keys(found: Iterable[Interval], prefix: bytes = b"") -> dict[bytes, bytes]:
    """Elements of a set of intervals; in a concatenation the other fields come before, and are single values."""
    return {prefix + first + prefix + last: b"" for first, last in found}


def halves(key: bytes) -> Interval:
    middle = len(key) // 2
    return key[:middle], key[middle:]


def show_interval(fields: Key, key: bytes) -> str:
    """An interval as nft writes it."""
    first, last = halves(key)
    shown, position = [], 0
    for field in fields:
        end = position + field.length
        shown.append(_show_field(field, first[position:end], last[position:end]))
        position += padded(field.length)
    return " . ".join(shown)


def _show_field(field: Field, first: bytes, last: bytes) -> str:
    if first == last:
        return field.show(first)
    size = int.from_bytes(last, "big") - int.from_bytes(first, "big") + 1
    is_network = size & (size - 1) == 0 and int.from_bytes(first, "big") % size == 0
    if is_network:
        return f"{field.show(first)}/{8 * len(first) - size.bit_length() + 1}"
    return f"{field.show(first)}-{field.show(last)}"
