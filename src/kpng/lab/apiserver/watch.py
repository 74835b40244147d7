"""Watches: a stream of events from a revision on, one JSON object a line."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Iterator

import msgspec

from kpng.lab.apiserver import errors
from kpng.lab.apiserver.lists import bounds, selected
from kpng.lab.apiserver.options import ListOptions
from kpng.lab.apiserver.selectors import Selection
from kpng.lab.apiserver.storage import Collection, Event, Storage, Stored
from kpng.lab.apiserver.views import View

_CHUNK = 500
_INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class Watch:
    """One watch. Iterate `stream` for the bytes to send; it ends at the timeout or after an ERROR event."""

    def __init__(self, storage: Storage, view: View, options: ListOptions, bookmark_seconds: float) -> None:
        self._storage = storage
        self._collection: Collection = storage.collections[view.kind]
        self._view = view
        self._options = options
        self._bookmark_seconds = bookmark_seconds
        self._position = options.revision or 0
        self._changed = asyncio.Event()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        self._collection.waiters.add(self._changed)
        try:
            for chunk in self._initial():
                yield chunk
            async for chunk in self._changes():
                yield chunk
        except errors.ApiError as error:
            # Once a watch runs, its errors travel inside: HTTP 200, then an ERROR event with a Status.
            yield msgspec.json.encode({"type": "ERROR", "object": error.status()}) + b"\n"
        finally:
            self._collection.waiters.discard(self._changed)

    def _initial(self) -> Iterator[bytes]:
        """The state at the start, if it was asked for: by sendInitialEvents, or by no revision or "0"."""
        options = self._options
        wanted = options.send_initial_events
        if wanted is None:
            wanted = not options.revision
        if not options.revision or wanted:
            if self._position > self._storage.revision:
                raise errors.too_large(self._position, self._storage.revision)
            self._position = self._storage.revision
        if not wanted:
            return
        now, selection = self._collection.now, options.selection
        items = list(selected(now, selection, *bounds(now.keys, selection.namespace)))
        for start in range(0, len(items), _CHUNK):
            yield b"".join(self._view.event("ADDED", stored) for stored in items[start : start + _CHUNK])
        if options.send_initial_events and options.bookmarks:
            yield self._bookmark({"annotations": {_INITIAL_EVENTS_END: "true"}})

    async def _changes(self) -> AsyncGenerator[bytes, None]:
        end = time.monotonic() + self._options.timeout
        period = self._bookmark_seconds if self._options.bookmarks else math.inf
        bookmark_at = time.monotonic() + period
        while (now := time.monotonic()) < end:
            self._changed.clear()
            if chunk := self._news():
                yield chunk
                continue  # more may have happened while it was sent
            if now >= bookmark_at:
                bookmark_at = now + period
                self._position = max(self._position, self._storage.revision)
                yield self._bookmark({})
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(end, bookmark_at) - now):
                    await self._changed.wait()

    def _news(self) -> bytes:
        """The lines of all events since the last call."""
        events = self._collection.since(self._position)
        if events:
            self._position = events[-1].revision
        seen = filter(None, (as_seen(event, self._options.selection) for event in events))
        return b"".join(self._view.event(change, stored) for change, stored in seen)

    def _bookmark(self, extra: dict[str, dict[str, str]]) -> bytes:
        metadata = {"resourceVersion": str(self._position), "creationTimestamp": None}
        return self._view.bookmark(metadata | extra)


def as_seen(event: Event, selection: Selection) -> tuple[str, Stored] | None:
    """An event as one sees it who only sees a selection: entering it is ADDED, leaving it is DELETED."""
    is_in = event.type != "DELETED" and selection.matches(event.key, event.now.object)
    was_in = event.before is not None and selection.matches(event.key, event.before.object)
    if is_in:
        return ("MODIFIED" if was_in else "ADDED"), event.now
    if not was_in or event.before is None:
        return None
    return "DELETED", event.now if event.type == "DELETED" else event.before.stamped(event.revision)
