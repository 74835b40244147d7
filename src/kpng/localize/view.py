"""One node's local state as a sequence of change sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator

from msgspec.structs import replace

from kpng.model import ChangeSet, LocalNode, LocalService, Node, ServiceChange, ServiceKey
from kpng.store import EMPTY, Snapshot, Store

from .answers import localize

STEP = 32
"""Services between two pauses: some milliseconds where no answer has been made yet, far less where it has."""


class LocalView:
    """What one node must do, following the store at its reader's pace.

    Holds nothing but the snapshot it last reported and the node as it was then, so a slow reader's changes
    collapse. Not to be read by two tasks at once.
    """

    def __init__(self, store: Store, node: str) -> None:
        self._store = store
        self._node = self._asked = node
        self._snapshot = EMPTY
        self._zone = ""
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
        if self._started and self._asked != self._node:
            changes = await self._advance_in_steps(self._snapshot)
        while changes is None:
            changes = await self._advance_in_steps(await self._store.newer(self._snapshot))
        return changes

    def advance(self, snapshot: Snapshot) -> ChangeSet | None:
        """Move on to a newer complete snapshot; return what differs, or None if nothing does."""
        node, zone = self._asked, self._zone_in(snapshot)
        compared = self._compare(snapshot, node, zone)
        return self._arrive(snapshot, node, zone, {key: change for key, change in compared if change.differs})

    async def _advance_in_steps(self, snapshot: Snapshot) -> ChangeSet | None:
        """`advance`, letting others run in between: the first time, and when the node moves, it is long."""
        node, zone = self._asked, self._zone_in(snapshot)
        changes = {}
        for number, (key, change) in enumerate(self._compare(snapshot, node, zone), 1):
            if change.differs:
                changes[key] = change
            if number % STEP == 0:
                await asyncio.sleep(0)
        return self._arrive(snapshot, node, zone, changes)

    def _compare(self, snapshot: Snapshot, node: str, zone: str) -> Iterator[tuple[ServiceKey, ServiceChange]]:
        """Each service whose answer may differ, in key order."""
        if (node, zone) == (self._node, self._zone):
            keys = snapshot.changed_services(self._snapshot)
        else:  # the node moved, or is another: every service may have another answer
            keys = sorted({*self._snapshot.services, *snapshot.services})
        for key in keys:
            old = _answer(self._snapshot, key, self._node, self._zone)
            yield key, ServiceChange(old, _answer(snapshot, key, node, zone))

    def _arrive(
        self, snapshot: Snapshot, node: str, zone: str, changes: dict[ServiceKey, ServiceChange]
    ) -> ChangeSet | None:
        first = not self._started
        seen = self._local_node(snapshot, node)
        news = seen if seen != self._told else None
        self._snapshot, self._node, self._zone, self._started, self._told = snapshot, node, zone, True, seen
        return ChangeSet(changes, full=first, node=news) or None

    def _local_node(self, snapshot: Snapshot, name: str) -> LocalNode:
        """The node as it is now, or as it last was; the same object if nothing that matters has changed."""
        node, cidrs = snapshot.nodes.get(name), snapshot.service_cidrs
        told, before = self._told, self._snapshot
        if told and told.name == name and node is before.nodes.get(name) and cidrs is before.service_cidrs:
            return told
        seen = local_node(name, node, cidrs.values())
        if node is None and told and told.name == name:  # its machine goes on, whoever deleted the object
            return replace(told, service_cidrs=seen.service_cidrs)
        return seen

    def _zone_in(self, snapshot: Snapshot) -> str:
        node = snapshot.nodes.get(self._asked)
        return node.zone if node else ""


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


def _answer(snapshot: Snapshot, key: ServiceKey, node: str, zone: str) -> LocalService | None:
    record = snapshot.services.get(key)
    return localize(record, node, zone) if record else None


async def change_sets(store: Store, node: str) -> AsyncIterator[ChangeSet]:
    """The change sets of one node, without end."""
    view = LocalView(store, node)
    while True:
        yield await view.next()
