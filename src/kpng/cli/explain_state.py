"""What ``kpng explain`` asks: files, or a kpng API."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping, Sequence

from msgspec import Struct

from kpng.client import GlobalRound, ask_global, ask_local
from kpng.explain import ClusterState
from kpng.localize import LocalView
from kpng.model import ChangeSet, EndpointInfo, LocalNode, LocalService, ProblemLog, ServiceKey, UserError
from kpng.sources.file import FileSource
from kpng.store import EMPTY, Snapshot, Store
from kpng.wire.grpc import GrpcError

from .pipeline import pipeline
from .sink import Sink

log = logging.getLogger(__name__)

API_SECONDS = 15.0
"""More than a connection may take, so that one that cannot be made says so itself."""


class Known(Struct, frozen=True):
    """A node's state, and the cluster's where that is told too."""

    node: LocalNode
    services: Mapping[ServiceKey, LocalService]
    cluster: ClusterState | None


async def known_from_files(path: str, service_cidrs: Sequence[str], node: str) -> Known:
    """Read files as ``kpng file`` does. Raises `UserError`."""
    found: list[Known] = []

    async def take(store: Store) -> None:
        snapshot = await store.newer(EMPTY)
        changes = LocalView(store, node).advance(snapshot)
        assert changes is not None, "the first change set of a view comes in any case"
        found.append(_known(changes, node, _cluster_of(snapshot, node)))

    problems = ProblemLog()
    source = FileSource(path, problems, once=True, service_cidrs=service_cidrs)
    await pipeline(source, [Sink(take, once=True)], problems)
    return found[0]


async def known_from_api(address: str, tls: ssl.SSLContext | None, node: str) -> Known:
    """Ask a kpng API for the node's state, and for the cluster's, which not every one tells. Raises `UserError`."""
    try:
        async with asyncio.timeout(API_SECONDS):
            return await _ask(address, tls, node)
    except TimeoutError:
        raise UserError(f"{address}: no state within {API_SECONDS:g} s; it may still wait for its own") from None


async def _ask(address: str, tls: ssl.SSLContext | None, node: str) -> Known:
    try:
        changes = await ask_local(address, node, tls)
        return _known(changes, node, await _cluster_from_api(address, tls, node))
    except (OSError, EOFError, GrpcError) as error:
        reason = "what it said broke off" if isinstance(error, EOFError) else str(error)
        reason = reason.removeprefix("tcp://").removeprefix(f"{address}: ")
        raise UserError(f"no kpng API at {address}: {reason}; name one with --api, or files with -i") from None


async def _cluster_from_api(address: str, tls: ssl.SSLContext | None, node: str) -> ClusterState | None:
    try:
        return _cluster_in(await ask_global(address, tls), node)
    except GrpcError as error:
        log.debug("%s does not tell the global state: %s", address, error)
        return None


def _known(changes: ChangeSet, node: str, cluster: ClusterState | None) -> Known:
    """From a full change set. A Go brain tells nothing of the Node."""
    services = {key: change.new for key, change in changes.changes.items() if change.new}
    return Known(changes.node or LocalNode(name=node), services, cluster)


def _cluster_of(snapshot: Snapshot, name: str) -> ClusterState:
    node = snapshot.nodes.get(name)
    endpoints = {key: [info for _, info in record.endpoints()] for key, record in snapshot.services.items()}
    return ClusterState(endpoints, node.zone if node else "")


def _cluster_in(collected: GlobalRound, name: str) -> ClusterState:
    node = collected.nodes.get(name)
    endpoints: dict[ServiceKey, list[EndpointInfo]] = {}
    for (service, _), rows in sorted(collected.endpoints.items()):
        endpoints.setdefault(service, []).extend(info for info in rows.values() if info)
    return ClusterState(endpoints, node.zone if node else "")
