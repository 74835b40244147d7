"""Lists: the state at a revision, in pages that together are that one state."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice

from kpng.lab.apiserver import errors
from kpng.lab.apiserver.options import Continue, ListOptions
from kpng.lab.apiserver.registry import Key, Kind, Object
from kpng.lab.apiserver.selectors import Selection
from kpng.lab.apiserver.storage import Collection, Snapshot, Storage, Stored


def page(storage: Storage, kind: Kind, options: ListOptions) -> tuple[list[Stored], Object]:
    """The items of one page of a list, and the list's metadata."""
    revision, snapshot = _snapshot(storage, kind, options)
    selection, after = options.selection, options.token.last if options.token else None
    start, end = bounds(snapshot.keys, selection.namespace)
    if after is not None:
        start = max(start, bisect_right(snapshot.keys, after))
    found = selected(snapshot, selection, start, end)
    items = list(islice(found, options.limit or None))
    metadata: Object = {"resourceVersion": str(revision)}
    if options.limit and next(found, None):
        metadata["continue"] = Continue(revision, kind.key(items[-1].object)).encode()
        if not (selection.labels or selection.fields):
            metadata["remainingItemCount"] = end - start - len(items)
    return items, metadata


def selected(snapshot: Snapshot, selection: Selection, start: int, end: int) -> Iterator[Stored]:
    """The objects of a selection, in order. ``start`` and ``end`` are places in the snapshot's keys."""
    matches, objects = selection.matches, snapshot.objects
    for key in islice(snapshot.keys, start, end):
        stored = objects[key]
        if matches(key, stored.object):
            yield stored


def bounds(keys: Sequence[Key], namespace: str | None) -> tuple[int, int]:
    """Where a namespace's keys begin and end; None is all namespaces."""
    if namespace is None:
        return 0, len(keys)
    return bisect_left(keys, (namespace, "")), bisect_left(keys, (namespace + "\0", ""))


def _snapshot(storage: Storage, kind: Kind, options: ListOptions) -> tuple[int, Snapshot]:
    collection: Collection = storage.collections[kind]
    current = storage.revision
    revision = options.token.revision if options.token else options.revision
    if revision is not None and revision > current:
        raise errors.too_large(revision, current)
    if revision is None or not (options.token or options.match == "Exact"):
        return current, collection.now
    try:
        return revision, collection.at(revision)
    except errors.ApiError as error:
        if options.token:
            text = "The provided continue parameter is too old to display a consistent list"
            raise errors.expired(text) from error
        raise
