"""Another kpng as the source: relays, and trees of them."""

from __future__ import annotations

import ssl
from collections.abc import Iterable

from kpng.client import GlobalRound, watch_global
from kpng.model import EndpointInfo, ProblemLog, ServiceKey
from kpng.store import Kind, Store, Transaction

Group = tuple[ServiceKey, str]
"""A service and the name of one of its sources."""


class ApiSource:
    """Follows the global API at ``address``. While that is away, the store keeps what it had."""

    def __init__(
        self, address: str, tls: ssl.SSLContext | None = None, *, problems: ProblemLog | None = None
    ) -> None:
        self._address = address
        self._tls = tls
        self._problems = problems
        self._endpoints: dict[Group, dict[str, EndpointInfo]] = {}

    async def run(self, store: Store) -> None:
        async for collected in watch_global(self._address, self._tls, problems=self._problems):
            with store.transaction() as transaction:
                self._stage(collected, transaction)

    def _stage(self, collected: GlobalRound, transaction: Transaction) -> None:
        """A whole state replaces what is there, so that only real differences come out of it."""
        if collected.whole:
            transaction.replace(*Kind)
            self._endpoints = {}
        for key, service in collected.services.items():
            if service is None:
                transaction.delete_service(key)
            else:
                transaction.set_service(service)
        for name, node in collected.nodes.items():
            if node is None:
                transaction.delete_node(name)
            else:
                transaction.set_node(node)
        for name, cidrs in collected.service_cidrs.items():
            if cidrs is None:
                transaction.delete_service_cidrs(name)
            else:
                transaction.set_service_cidrs(name, cidrs)
        self._merge(collected)
        self._stage_sources(collected.endpoints, transaction)

    def _merge(self, collected: GlobalRound) -> None:
        for group, endpoints in collected.endpoints.items():
            rows = self._endpoints.setdefault(group, {})
            for key, info in endpoints.items():
                if info is None:
                    rows.pop(key, None)
                else:
                    rows[key] = info
            if not rows:
                del self._endpoints[group]

    def _stage_sources(self, groups: Iterable[Group], transaction: Transaction) -> None:
        """Deletes first: a source that moved to another service is gone from one and present in the other."""
        for service, source in groups:
            transaction.delete_source(service.namespace, source)
        for service, source in groups:
            rows = self._endpoints.get((service, source))
            if rows:
                transaction.set_source(source, service, [rows[key] for key in sorted(rows)])
