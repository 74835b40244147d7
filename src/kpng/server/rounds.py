"""Rounds of local state as bytes: worked out and encoded once for all watchers to which they are the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Generic, TypeVar, cast

from kpng.localize import BucketAnswers, Difference, Place, bucket_answers, changes_between
from kpng.model import ServiceChange, ServiceKey
from kpng.store import Bucket, ServiceRecord, Snapshot

from .encodings import Encoding
from .steps import STEP, in_steps

T = TypeVar("T")

_PAUSE_BUCKETS = 64
_DIFFERENCES = 16
"""How many pairs of snapshots are kept in mind. Most watchers go from one revision to the next together."""


class Rounds(Generic[T]):
    """What watchers are told, in one encoding.

    The whole state is kept in the store's buckets, the shared part of it encoded (and compressed) for each zone
    that makes a difference; what a node has for itself comes after it and takes precedence.
    """

    def __init__(self, encoding: Encoding[T]) -> None:
        self.encoding = encoding
        self.encoded = 0
        """How many changes of one service have really been encoded."""
        self._differences: dict[tuple[int, int], _SharedDifference[T]] = {}

    async def whole(self, place: Place) -> list[bytes]:
        """Everything that a reader at this place is to know."""
        buffers: list[bytes] = []
        own: list[tuple[ServiceKey, ServiceChange]] = []
        for number, bucket in enumerate(place.snapshot.services.buckets):
            if not bucket.entries:
                continue
            answers = bucket_answers(bucket)
            zone = place.zone if place.zone in answers.zones else ""
            made = bucket.derived.get((self, zone))
            if made is None:
                made = bucket.derived[self, zone] = self._bucket(bucket, answers, zone)
                await asyncio.sleep(0)
            elif number % _PAUSE_BUCKETS == 0:
                await asyncio.sleep(0)
            buffers.append(cast(bytes, made))
            own += answers.own(place.node, zone)
        buffers.append(await self.joined(own))
        return [buffer for buffer in buffers if buffer]

    async def between(self, old: Place, new: Place) -> bytes:
        """What differs for one reader; b"" where nothing does."""
        if (old.node, old.zone) != (new.node, new.zone):
            return await self.joined(changes_between(old, new))
        return await self._difference(old.snapshot, new.snapshot).told_to(new.node, new.zone)

    async def joined(self, changes: Iterable[tuple[ServiceKey, ServiceChange] | None]) -> bytes:
        """Encoded and joined; others run in between."""
        encoded = []
        for number, found in enumerate(changes, 1):
            if found:
                encoded.append(self._encode(*found))
            if number % STEP == 0:
                await asyncio.sleep(0)
        return self.encoding.join(encoded)

    def _encode(self, key: ServiceKey, change: ServiceChange) -> T:
        self.encoded += 1
        return self.encoding.change(key, change)

    def _bucket(self, bucket: Bucket[ServiceKey, ServiceRecord], answers: BucketAnswers, zone: str) -> bytes:
        """The shared answers of one bucket. Each is kept by itself too, so that a change in the bucket is no reason
        to encode the others again."""
        encoded = []
        for key, each in answers.answers.items():
            derived = bucket.entries[key].derived
            made = derived.get((self, zone))
            if made is None:
                made = derived[self, zone] = self._encode(key, ServiceChange(None, each.shared(zone)))
            encoded.append(cast(T, made))
        return self.encoding.join(encoded)

    def _difference(self, old: Snapshot, new: Snapshot) -> _SharedDifference[T]:
        pair = (old.revision, new.revision)
        known = self._differences.get(pair)
        if known is None:
            while len(self._differences) >= _DIFFERENCES:
                del self._differences[next(iter(self._differences))]
            known = self._differences[pair] = _SharedDifference(self, Difference(old, new))
        return known


class _SharedDifference(Generic[T]):
    """What differs between two snapshots, encoded for each view that is asked for."""

    __slots__ = ("_compared", "_difference", "_made", "_making", "_rounds")

    def __init__(self, rounds: Rounds[T], difference: Difference) -> None:
        self._rounds = rounds
        self._difference = difference
        self._compared = False
        self._made: dict[str, bytes] = {}  # by zone
        self._making = asyncio.Lock()

    async def told_to(self, node: str, zone: str) -> bytes:
        if not self._compared:
            async with self._making:
                await self._compare()
        view = self._difference.view(node, zone)
        if view[0]:
            return await self._rounds.joined(self._difference.changes(view))
        made = self._made.get(view[1])
        if made is None:
            async with self._making:
                made = self._made.get(view[1])
                if made is None:
                    made = self._made[view[1]] = await self._rounds.joined(self._difference.changes(view))
        return made

    async def _compare(self) -> None:
        if not self._compared:
            await in_steps(self._difference.compare())
            self._compared = True
