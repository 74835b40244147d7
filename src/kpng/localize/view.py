"""One node's local state as a sequence of change sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from msgspec.structs import replace

from kpng.model import ChangeSet, LocalNode, Node, ServiceChange, ServiceKey
from kpng.store import EMPTY, Snapshot, Store

from .difference import Place, changes_between

STEP = 32
"""Services between two pauses: some milliseconds where no answer has been made yet, far less where it has."""


class LocalView:
    """What one node must do, following the store at its reader's pace.

    Holds nothing but the snapshot it last reported and the node as it was then, so a slow reader's changes
    collapse. Not to be read by two tasks at once.
    """

    def __init__(self, store: Store, node: str) -> None:
        self._store = store
        self._asked = node
        self._place = Place(EMPTY, node)
        self._told: LocalNode | None = None
        self._started = False

    @property
    def node(self) -> str:
        return self._asked

    def follow(self, node: str) -> None:
        """From now on be this node; the next change set holds what differs between the two."""
        self._asked = node

    async def next(self) -> ChangeSet:
        """Wait for the next change set. The first is ``full`` and comes also for an empty cluster; later
        ones are never empty."""
        changes = None
        if self._started and self._asked != self._place.node:
            changes = await self._advance_in_steps(self._place.snapshot)
        while changes is None:
            changes = await self._advance_in_steps(await self._store.newer(self._place.snapshot))
        return changes

    def advance(self, snapshot: Snapshot) -> ChangeSet | None:
        """Move on to a newer complete snapshot; return what differs, or None if nothing does."""
        place = place_of(snapshot, self._asked)
        return self._arrive(place, dict(filter(None, changes_between(self._place, place))))

    async def _advance_in_steps(self, snapshot: Snapshot) -> ChangeSet | None:
        """`advance`, letting others run in between: the first time, and when the node moves, it is long."""
        place = place_of(snapshot, self._asked)
        changes = {}
        for number, found in enumerate(changes_between(self._place, place), 1):
            if found:
                changes[found[0]] = found[1]
            if number % STEP == 0:
                await asyncio.sleep(0)
        return self._arrive(place, changes)

    def _arrive(self, place: Place, changes: dict[ServiceKey, ServiceChange]) -> ChangeSet | None:
        first = not self._started
        seen = node_in(place, self._place, self._told)
        news = seen if seen != self._told else None
        self._place, self._started, self._told = place, True, seen
        return ChangeSet(changes, full=first, node=news) or None


def place_of(snapshot: Snapshot, name: str) -> Place:
    """Where a reader of a snapshot stands who is this node."""
    node = snapshot.nodes.get(name)
    return Place(snapshot, name, node.zone if node else "")


def node_in(place: Place, before: Place, told: LocalNode | None) -> LocalNode:
    """The node as it is now, or as it last was; the same object if nothing that matters has changed since it was
    ``told``, which was ``before``."""
    name, snapshot = place.node, place.snapshot
    node, cidrs = snapshot.nodes.get(name), snapshot.service_cidrs
    known = told if told and told.name == name else None
    if known and node is before.snapshot.nodes.get(name) and cidrs is before.snapshot.service_cidrs:
        return known
    seen = local_node(name, node, cidrs.values())
    if known and node is None:  # its machine goes on, whoever deleted the object
        return replace(known, service_cidrs=seen.service_cidrs)
    return seen


def local_node(name: str, node: Node | None, service_cidrs: Iterable[tuple[str, ...]]) -> LocalNode:
    """A Node as it sees itself; ``node`` is None while it does not exist."""
    cidrs = tuple(sorted({cidr for each in service_cidrs for cidr in each}))
    if node is None:
        return LocalNode(name=name, service_cidrs=cidrs)
    return LocalNode(
        name=name,
        addresses=node.addresses,
        pod_cidrs=node.pod_cidrs,
        service_cidrs=cidrs,
        eligible=node.eligible,
    )


async def change_sets(store: Store, node: str) -> AsyncIterator[ChangeSet]:
    """The change sets of one node, without end."""
    view = LocalView(store, node)
    while True:
        yield await view.next()
