"""Objects and their bounded history: one counter of revisions over all kinds, as etcd's."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import msgspec

from kpng.lab.apiserver import errors
from kpng.lab.apiserver.registry import KINDS, Key, Kind, Object

EventType = Literal["ADDED", "MODIFIED", "DELETED"]
Observer = Callable[[Kind, Object | None, Object | None], None]

_encode = msgspec.json.Encoder().encode


class Stored(msgspec.Struct, frozen=True, gc=False):
    """One state of one object. The object is shared with every reader: never changed in place."""

    revision: int
    object: Object
    encoded: bytes

    def stamped(self, revision: int) -> Stored:
        """The same object under another revision."""
        metadata = self.object["metadata"] | {"resourceVersion": str(revision)}
        thing = self.object | {"metadata": metadata}
        return Stored(revision, thing, _encode(thing))


class Event(msgspec.Struct, frozen=True):
    """One change. ``now`` of a deletion is the last state under the revision of the deletion."""

    type: EventType
    key: Key
    now: Stored
    before: Stored | None

    @property
    def revision(self) -> int:
        return self.now.revision


class Snapshot(NamedTuple):
    """The objects of one kind, and their keys in order."""

    objects: dict[Key, Stored]
    keys: list[Key]


class Collection:
    """All objects of one kind, the latest changes, and who waits for more."""

    def __init__(self, kind: Kind, history_limit: int) -> None:
        self.kind = kind
        self.objects: dict[Key, Stored] = {}
        self.now = Snapshot(self.objects, [])
        """The present state: it changes in place."""
        self._earlier: tuple[int, Snapshot] | None = None
        """The last earlier state that was asked for: the next page of a list will ask for it, too."""
        self.history: deque[Event] = deque()
        self.history_limit = history_limit
        self.forgotten = 0
        """The newest revision whose event is gone: nothing at or before it can be watched from."""
        self.waiters: set[asyncio.Event] = set()

    def put(self, key: Key, stored: Stored) -> None:
        if key not in self.objects:
            insort(self.now.keys, key)
        self.objects[key] = stored

    def take(self, key: Key) -> Stored:
        del self.now.keys[bisect_left(self.now.keys, key)]
        return self.objects.pop(key)

    def record(self, event: Event) -> None:
        self.history.append(event)
        if len(self.history) > self.history_limit:
            self.forgotten = self.history.popleft().revision
        self.wake()

    def wake(self) -> None:
        for waiter in self.waiters:
            waiter.set()

    def compact(self, revision: int) -> None:
        self.history.clear()
        self.forgotten = revision

    def since(self, revision: int) -> list[Event]:
        """The events after ``revision``, oldest first. Raises 410 if some of them are forgotten."""
        if revision < self.forgotten:
            raise errors.too_old(revision, self.forgotten)
        newer = []
        for event in reversed(self.history):
            if event.revision <= revision:
                break
            newer.append(event)
        newer.reverse()
        return newer

    def at(self, revision: int) -> Snapshot:
        """The objects as they were at ``revision``. Raises 410 if that is forgotten."""
        if revision >= self.forgotten and self._earlier and self._earlier[0] == revision:
            return self._earlier[1]
        later = self.since(revision)
        if not later:
            return self.now
        objects = self._before(later)
        self._earlier = revision, Snapshot(objects, sorted(objects))
        return self._earlier[1]

    def _before(self, later: list[Event]) -> dict[Key, Stored]:
        """The objects without the latest changes, which are undone, newest first."""
        objects = dict(self.objects)
        for event in reversed(later):
            if event.before is None:
                objects.pop(event.key, None)
            else:
                objects[event.key] = event.before
        return objects


class Storage:
    """The collections. ``observers`` hear of every change as (kind, before, after)."""

    def __init__(self, history_limit: int) -> None:
        self.revision = 1
        self.collections = {kind: Collection(kind, history_limit) for kind in KINDS}
        self.observers: list[Observer] = []
        self.journal: Callable[[Event], None] | None = None

    def get(self, kind: Kind, key: Key) -> Stored | None:
        return self.collections[kind].objects.get(key)

    def objects(self, kind: Kind) -> Iterator[Object]:
        return (stored.object for stored in self.collections[kind].objects.values())

    def write(self, kind: Kind, thing: Object) -> Stored:
        """Store ``thing`` under a new revision; it belongs to the storage from now on."""
        collection, key = self.collections[kind], kind.key(thing)
        before = collection.objects.get(key)
        now = self._stamp(thing)
        collection.put(key, now)
        self._announce(collection, Event("MODIFIED" if before else "ADDED", key, now, before))
        return now

    def remove(self, kind: Kind, key: Key) -> Stored:
        collection = self.collections[kind]
        before = collection.take(key)
        self.revision += 1
        now = before.stamped(self.revision)
        self._announce(collection, Event("DELETED", key, now, before))
        return now

    def compact(self) -> None:
        """Forget all history, as etcd's compaction does: older revisions are answered with 410."""
        for collection in self.collections.values():
            collection.compact(self.revision)

    def _stamp(self, thing: Object) -> Stored:
        self.revision += 1
        thing["metadata"]["resourceVersion"] = str(self.revision)
        return Stored(self.revision, thing, _encode(thing))

    def _announce(self, collection: Collection, event: Event) -> None:
        before = event.before.object if event.before else None
        after = None if event.type == "DELETED" else event.now.object
        for observer in self.observers:
            observer(collection.kind, before, after)
        if self.journal is not None:
            self.journal(event)
        collection.record(event)
