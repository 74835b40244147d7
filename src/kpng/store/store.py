"""The global store: one writer at a time, any number of readers at their own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from immutables import Map

from kpng.model import EndpointInfo, EndpointSource, Node, Service, ServiceKey

from .changelog import ChangeLog, compare
from .snapshot import EMPTY, Kind, ServiceRecord, Snapshot
from .transaction import SourceKey, Transaction

T = TypeVar("T")


class Store:
    """Services, endpoints, Nodes and ServiceCIDRs of the cluster.

    Writers use `transaction`; every one that changes something makes a new revision. Readers hold a
    `Snapshot` and ask what `changed` between two of them. A slow reader costs its own old snapshot, which
    shares everything unchanged with the newest; it never holds up anybody. Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._snapshot = EMPTY
        self._sources: dict[SourceKey, EndpointSource] = {}
        self._services_log: ChangeLog[ServiceKey] = ChangeLog()
        self._nodes_log: ChangeLog[str] = ChangeLog()
        self._advanced = asyncio.Event()

    @property
    def snapshot(self) -> Snapshot:
        """The newest state."""
        return self._snapshot

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Stage changes and apply them at the end of the block; an exception inside it drops them all."""
        staged = Transaction()
        yield staged
        self._commit(staged)

    async def newer(self, than: Snapshot) -> Snapshot:
        """Wait until there is a complete state (`Snapshot.complete`) newer than the given one; return it."""
        while self._snapshot.revision <= than.revision or not self._snapshot.complete:
            await self._advanced.wait()
        return self._snapshot

    def changed(self, old: Snapshot, new: Snapshot) -> list[ServiceKey]:
        """Keys of services that differ between two snapshots (themselves or their endpoints), in key order.

        Cost: the number of services changed since ``old``, whatever the number of changes.
        """
        keys = self._services_log.since(old.revision)
        if keys is None:
            keys = [*old.services, *(key for key in new.services if key not in old.services)]
        return sorted(compare(keys, old.services.get, new.services.get))

    def changed_nodes(self, old: Snapshot, new: Snapshot) -> list[str]:
        """Names of Nodes that differ between two snapshots, in order."""
        names = self._nodes_log.since(old.revision)
        if names is None:
            names = [*old.nodes, *(name for name in new.nodes if name not in old.nodes)]
        return sorted(compare(names, old.nodes.get, new.nodes.get))

    # -- committing ------------------------------------------------------------------------------

    def _commit(self, staged: Transaction) -> None:
        self._delete_unmentioned(staged)
        revision = self._snapshot.revision + 1
        services = self._next_services(staged, revision)
        before = self._snapshot
        nodes = self._next_nodes(staged, revision)
        cidrs = _next(before.service_cidrs, staged.service_cidrs)
        synced = before.synced | staged.synced
        same = services is before.services and nodes is before.nodes and cidrs is before.service_cidrs
        if same and synced == before.synced:
            return
        self._snapshot = Snapshot(revision, services, nodes, cidrs, synced)
        self._advanced.set()
        self._advanced = asyncio.Event()

    def _delete_unmentioned(self, staged: Transaction) -> None:
        """A relist deletes what it does not contain."""
        before = self._snapshot
        if Kind.SERVICES in staged.replaced:
            for key, record in before.services.items():
                if record.service is not None:
                    staged.services.setdefault(key, None)
        if Kind.ENDPOINTS in staged.replaced:
            for source in self._sources:
                staged.sources.setdefault(source, None)
        if Kind.NODES in staged.replaced:
            for name in before.nodes:
                staged.nodes.setdefault(name, None)
        if Kind.SERVICE_CIDRS in staged.replaced:
            for name in before.service_cidrs:
                staged.service_cidrs.setdefault(name, None)

    def _next_services(self, staged: Transaction, revision: int) -> Map[ServiceKey, ServiceRecord]:
        before = self._snapshot.services
        sources = self._stage_sources(staged)
        touched = sources.keys() | staged.services.keys()
        after = before.mutate()
        changed = False
        for key in sorted(touched):
            old = before.get(key)
            service = staged.services.get(key, old.service if old else None)
            new = _next_record(key, old, service, sources.get(key, {}))
            if new is old:
                continue
            changed = True
            if new is None:
                del after[key]
            else:
                after[key] = new
            self._services_log.record(key, revision, exists=new is not None)
        return after.finish() if changed else before

    def _stage_sources(self, staged: Transaction) -> dict[ServiceKey, dict[str, tuple[EndpointInfo, ...] | None]]:
        """Per service, the sources that change; a source that moved is deleted from its old service."""
        touched: dict[ServiceKey, dict[str, tuple[EndpointInfo, ...] | None]] = {}
        for source, new in staged.sources.items():
            old = self._sources.get(source)
            if old == new:
                continue
            name = source[1]
            if old is not None:
                touched.setdefault(old.service, {})[name] = None
            if new is not None:
                touched.setdefault(new.service, {})[name] = new.endpoints
                self._sources[source] = new
            else:
                self._sources.pop(source, None)
        return touched

    def _next_nodes(self, staged: Transaction, revision: int) -> Map[str, Node]:
        before = self._snapshot.nodes
        after = _next(before, staged.nodes)
        for name in staged.nodes if after is not before else ():
            if after.get(name) is not before.get(name):
                self._nodes_log.record(name, revision, exists=name in after)
        return after


def _next(before: Map[str, T], staged: Mapping[str, T | None]) -> Map[str, T]:
    """The map after a change; the old one itself if nothing differs."""
    changes = {name: value for name, value in staged.items() if before.get(name) != value}
    if not changes:
        return before
    after = before.mutate()
    for name, value in changes.items():
        if value is None:
            del after[name]
        else:
            after[name] = value
    return after.finish()


def _next_record(
    key: ServiceKey,
    old: ServiceRecord | None,
    service: Service | None,
    sources: dict[str, tuple[EndpointInfo, ...] | None],
) -> ServiceRecord | None:
    """The record after a change; the old object itself if nothing differs, None if nothing is left."""
    if old is not None and old.service == service and not sources:
        return old
    merged = dict(old.sources) if old else {}
    for name, endpoints in sources.items():
        if endpoints is None:
            merged.pop(name, None)
        else:
            merged[name] = endpoints
    if service is None and not merged:
        return None
    return ServiceRecord(key, service, merged)
