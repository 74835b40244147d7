"""Which Node this is, and waiting for what the API server knows of it (semantics K1 to K3)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from kpng.model import InvalidObjectError, Node, UserError, check_name
from kpng.store import EMPTY, Snapshot, Store

log = logging.getLogger(__name__)

ADDRESS_SECONDS = 30.0
POD_CIDR_SECONDS = 300.0


class NodeTimeoutError(Exception):
    """The Node lacks what cannot be done without; the process ends, so that it is started anew."""


def proxy_node_name(override: str) -> str:
    """As given, or the host's; without blanks and in lower case (K1). Raises `kpng.UserError`."""
    name = (override or socket.gethostname()).strip().lower()
    try:
        return check_name(name)
    except InvalidObjectError as error:
        raise UserError(f"the name of this Node: {error}; set it with --hostname-override") from None


async def wait_for_node(store: Store, name: str, *, needs_pod_cidrs: bool) -> Node | None:
    """Wait until the Node has addresses; not for ever: then go on without (K3). With ``needs_pod_cidrs`` also
    wait for those, and raise `NodeTimeoutError` if they do not come."""
    snapshot = await store.newer(EMPTY)
    snapshot = await _until(store, snapshot, lambda s: _has_addresses(s, name), ADDRESS_SECONDS)
    if not _has_addresses(snapshot, name):
        log.error("Node %s: %s; going on without its addresses", name, _lack(snapshot, name, "no address"))
    if needs_pod_cidrs:
        snapshot = await _until(store, snapshot, lambda s: _has_pod_cidrs(s, name), POD_CIDR_SECONDS)
        if not _has_pod_cidrs(snapshot, name):
            lack = _lack(snapshot, name, "no pod CIDR allocated")
            raise NodeTimeoutError(f"Node {name}: {lack} after {POD_CIDR_SECONDS:.0f} s")
    return snapshot.nodes.get(name)


async def _until(
    store: Store, snapshot: Snapshot, satisfied: Callable[[Snapshot], bool], seconds: float
) -> Snapshot:
    """The first snapshot that satisfies, or the newest when the time is over."""
    try:
        async with asyncio.timeout(seconds):
            while not satisfied(snapshot):
                snapshot = await store.newer(snapshot)
    except TimeoutError:
        return store.snapshot
    return snapshot


def _has_addresses(snapshot: Snapshot, name: str) -> bool:
    node = snapshot.nodes.get(name)
    return node is not None and bool(node.addresses)


def _has_pod_cidrs(snapshot: Snapshot, name: str) -> bool:
    node = snapshot.nodes.get(name)
    return node is not None and bool(node.pod_cidrs)


def _lack(snapshot: Snapshot, name: str, what: str) -> str:
    return what if name in snapshot.nodes else "no such Node"
