"""Fingerprints: what a table holds, in 32 hex digits that can be updated element by element.

The sum of the hashes of all elements, modulo 2**128 (an incremental multiset hash, Bellare and Micciancio's
AdHash): adding and deleting an element are an addition and a subtraction, and order does not matter. It guards
against accidents, not against somebody who may write to the table anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b

from .ruleset import Elements

_MODULUS = 1 << 128


def element_hash(name: str, key: bytes, data: bytes) -> int:
    """The hash of one element of the set ``name`` (keys of one set all have one length)."""
    return int.from_bytes(blake2b(key + data, digest_size=16, person=name[-16:].encode()).digest(), "big")


def set_hash(name: str, elements: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]) -> int:
    """The sum over the elements of one set."""
    pairs = elements.items() if isinstance(elements, Mapping) else elements
    empty = blake2b(digest_size=16, person=name[-16:].encode())
    total = 0
    for key, data in pairs:
        hasher = empty.copy()
        hasher.update(key + data)
        total += int.from_bytes(hasher.digest(), "big")
    return total % _MODULUS


def elements_hash(elements: Elements) -> int:
    return sum(set_hash(name, found) for name, found in elements.items()) % _MODULUS


def changed(before: int, deleted: Elements, added: Elements) -> int:
    """The sum after elements were deleted and added."""
    return (before - elements_hash(deleted) + elements_hash(added)) % _MODULUS


def text(skeleton: str, elements: int) -> str:
    """What is written into the table: the fixed part's hash, then the elements'."""
    return f"{skeleton}-{elements:032x}"
