"""Snapshots that have been told of, for watchers that come back and want to know what is new since."""

from __future__ import annotations

from collections import deque

from kpng.store import Snapshot

MOST = 1024
MOST_ENDPOINTS = 50_000
"""What snapshots keep alive is earlier versions of services, with the answers made of them: up to 1 KiB for each
endpoint. So few of a service with thousands of endpoints are kept, and many of small ones."""


class Past:
    """The newest snapshots, as many as are cheap to keep; the newest of all in any case."""

    def __init__(self) -> None:
        self._snapshots: dict[int, Snapshot] = {}  # by revision, the oldest first
        self._replaced: deque[int] = deque()  # endpoints of what changed from each to the next
        self._endpoints = 0
        self._newest: Snapshot | None = None

    def get(self, revision: int) -> Snapshot | None:
        return self._snapshots.get(revision)

    def add(self, snapshot: Snapshot) -> None:
        """A newer one than all that are there."""
        if self._newest is not None:
            self._replaced.append(_endpoints_replaced(self._newest, snapshot))
            self._endpoints += self._replaced[-1]
        self._newest = self._snapshots[snapshot.revision] = snapshot
        while len(self._snapshots) > MOST or self._endpoints > MOST_ENDPOINTS:
            del self._snapshots[next(iter(self._snapshots))]
            self._endpoints -= self._replaced.popleft()


def _endpoints_replaced(old: Snapshot, new: Snapshot) -> int:
    """How many endpoints services had that are not any more what they were."""
    before = (old.services.get(key) for key in new.services.changed(old.services))
    return sum(len(endpoints) for record in before if record for endpoints in record.sources.values())
