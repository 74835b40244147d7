"""A persistent map in buckets: a change copies one bucket, and shares all the others with what was before."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, TypeVar, overload

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")

BUCKETS = 256
"""A power of two. With 10,000 services a bucket has 40 of them: copying it takes half a microsecond."""


class Bucket(Generic[K, V]):
    """Some entries of a table. Immutable.

    ``derived`` is for layers above: what they compute from these entries alone they may keep here, and it lives
    exactly as long as the bucket.
    """

    __slots__ = ("derived", "entries")

    def __init__(self, entries: dict[K, V]) -> None:
        self.entries = entries
        self.derived: dict[object, object] = {}


class Table(Mapping[K, V]):
    """An immutable map. Two tables of which one came of the other are compared at the cost of what differs."""

    __slots__ = ("buckets",)

    def __init__(self, buckets: tuple[Bucket[K, V], ...] | None = None) -> None:
        self.buckets = buckets or (Bucket[K, V]({}),) * BUCKETS

    def __getitem__(self, key: K) -> V:
        return self.buckets[hash(key) % BUCKETS].entries[key]

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V | D) -> V | D: ...
    def get(self, key: K, /, default: V | D | None = None) -> V | D | None:
        return self.buckets[hash(key) % BUCKETS].entries.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self.buckets[hash(key) % BUCKETS].entries

    def __iter__(self) -> Iterator[K]:
        for bucket in self.buckets:
            yield from bucket.entries

    def __len__(self) -> int:
        return sum(len(bucket.entries) for bucket in self.buckets)

    def updated(self, changes: Mapping[K, V | None]) -> Table[K, V]:
        """With these values set, and those that are None deleted; the table itself if that is no difference."""
        copies: dict[int, dict[K, V]] = {}
        for key, value in changes.items():
            number = hash(key) % BUCKETS
            entries = copies[number] if number in copies else self.buckets[number].entries
            if entries.get(key) == value:
                continue
            if number not in copies:
                entries = copies[number] = dict(entries)
            if value is None:
                del entries[key]
            else:
                entries[key] = value
        if not copies:
            return self
        buckets = list(self.buckets)
        for number, entries in copies.items():
            buckets[number] = Bucket(entries)
        return Table(tuple(buckets))

    def changed(self, since: Table[K, V]) -> list[K]:
        """Keys whose value is another object than before, or that came or went; in no particular order."""
        keys: list[K] = []
        for old, new in zip(since.buckets, self.buckets, strict=True):
            if old is not new:
                before, after = old.entries, new.entries
                keys += [key for key, value in after.items() if before.get(key) is not value]
                keys += [key for key in before if key not in after]
        return keys
