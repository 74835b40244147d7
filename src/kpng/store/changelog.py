"""Which keys changed since a revision: bounded by the number of keys, not by the number of changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")


class ChangeLog(Generic[K]):
    """An ordered map key -> revision of its last change, latest last.

    Changes to one key collapse. Keys that no longer exist are kept as tombstones up to a limit; who asks
    for a revision older than a forgotten tombstone is told so (`since` returns None) and compares whole
    states instead.
    """

    def __init__(self, max_tombstones: int = 4096) -> None:
        self._revisions: dict[K, int] = {}
        self._dead: dict[K, None] = {}
        self._max_tombstones = max_tombstones
        self._forgotten = 0

    def __len__(self) -> int:
        return len(self._revisions)

    def record(self, key: K, revision: int, *, exists: bool) -> None:
        """Note that ``key`` changed at ``revision``, the newest so far."""
        self._revisions.pop(key, None)
        self._revisions[key] = revision
        self._dead.pop(key, None)
        if not exists:
            self._dead[key] = None
            if len(self._dead) > self._max_tombstones:
                oldest = next(iter(self._dead))
                del self._dead[oldest]
                self._forgotten = max(self._forgotten, self._revisions.pop(oldest))

    def since(self, revision: int) -> list[K] | None:
        """Keys changed after ``revision``, latest first; None if that is no longer known."""
        if revision < self._forgotten:
            return None
        return list(self._newer(revision))

    def _newer(self, revision: int) -> Iterator[K]:
        for key, changed in reversed(self._revisions.items()):
            if changed <= revision:
                return
            yield key


def compare(keys: Iterable[K], old: Callable[[K], object], new: Callable[[K], object]) -> list[K]:
    """The slow way: every key whose value is not the same object in two states."""
    return [key for key in keys if old(key) is not new(key)]
