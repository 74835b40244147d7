"""The global store: one writer at a time, any number of readers at their own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from kpng.model import EndpointInfo, EndpointSource, Service, ServiceKey

from .snapshot import EMPTY, Kind, ServiceRecord, Snapshot
from .table import Table
from .transaction import SourceKey, Transaction

_Sources = dict[str, tuple[EndpointInfo, ...] | None]
"""What changes of a service's sources; None: it is gone, or belongs to another service now."""


class Store:
    """Services, endpoints, Nodes and ServiceCIDRs of the cluster.

    Writers use `transaction`; every one that changes something makes a new revision. Readers hold a
    `Snapshot` and compare it with a later one. A slow reader costs its own old snapshot, which
    shares everything unchanged with the newest; it never holds up anybody. Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._snapshot = EMPTY
        self._sources: dict[SourceKey, EndpointSource] = {}
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

    # -- committing ------------------------------------------------------------------------------

    def _commit(self, staged: Transaction) -> None:
        self._delete_unmentioned(staged)
        before = self._snapshot
        services = self._next_services(staged)
        nodes = before.nodes.updated(staged.nodes)
        cidrs = before.service_cidrs.updated(staged.service_cidrs)
        synced = before.synced | staged.synced
        same = services is before.services and nodes is before.nodes and cidrs is before.service_cidrs
        if same and synced == before.synced:
            return
        self._snapshot = Snapshot(before.revision + 1, services, nodes, cidrs, synced)
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

    def _next_services(self, staged: Transaction) -> Table[ServiceKey, ServiceRecord]:
        before = self._snapshot.services
        sources = self._stage_sources(staged)
        records: dict[ServiceKey, ServiceRecord | None] = {}
        for key in {**sources, **staged.services}:
            old = before.get(key)
            service = staged.services.get(key, old.service if old else None)
            records[key] = _next_record(key, old, service, sources.get(key))
        return before.updated(records)

    def _stage_sources(self, staged: Transaction) -> dict[ServiceKey, _Sources]:
        """Per service, the sources that change; a source that moved is deleted from its old service."""
        touched: dict[ServiceKey, _Sources] = {}
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


def _next_record(
    key: ServiceKey,
    old: ServiceRecord | None,
    service: Service | None,
    sources: _Sources | None,
) -> ServiceRecord | None:
    """The record after a change; the old object itself if nothing differs, None if nothing is left."""
    if old is not None and old.service == service and not sources:
        return old
    merged = dict(old.sources) if old else {}
    for name, endpoints in (sources or {}).items():
        if endpoints is None:
            merged.pop(name, None)
        else:
            merged[name] = endpoints
    if service is None and not merged:
        return None
    return ServiceRecord(key, service, merged)
