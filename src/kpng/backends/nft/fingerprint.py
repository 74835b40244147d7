"""Fingerprints: what a table holds, in 32 hex digits that can be updated element by element.

The sum of the hashes of all elements, modulo 2**128 (an incremental multiset hash, Bellare and Micciancio's
AdHash): adding and deleting an element are an addition and a subtraction, and order does not matter. It guards
against accidents, not against somebody who may write to the table anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from .ruleset import Elements

_MODULUS = 1 << 128


def set_hash(name: str, elements: Mapping[bytes, bytes]) -> int:
    """The sum over the elements of the set ``name``, all keys of which have one length."""
    empty = blake2b(name.encode() + b"\0", digest_size=16)
    total = 0
    for key, data in elements.items():
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
