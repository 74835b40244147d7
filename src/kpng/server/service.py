"""kpng's API: a store's state over gRPC."""

from __future__ import annotations

import ssl

from kpng.store import Store
from kpng.wire.batch import LOCAL_WATCH_BATCHES
from kpng.wire.ops import GLOBAL_WATCH, LOCAL_WATCH

from .authorize import anybody, own_node
from .global_ import GlobalSets
from .grpc import GrpcServer, Handler, Limits
from .local import LocalSets

LIMITS = Limits(max_message_bytes=64 * 1024)
"""A request holds a node's name, or nothing."""


class ApiServer:
    """Serves a store to node agents (the local API) and relays (the global API).

    ``own_node_only``, for a server with mutual TLS: the local API gives a node only its own state (see
    `own_node`). Whoever has a certificate may still read the global API; switch it off where nodes must not.
    """

    def __init__(
        self,
        store: Store,
        *,
        local_api: bool = True,
        global_api: bool = True,
        own_node_only: bool = False,
        limits: Limits = LIMITS,
    ) -> None:
        self.local_sets = LocalSets(store, own_node if own_node_only else anybody)
        self.global_sets = GlobalSets(store)
        handlers: dict[str, Handler] = {}
        if local_api:
            handlers[LOCAL_WATCH] = self.local_sets.watch
            handlers[LOCAL_WATCH_BATCHES] = self.local_sets.watch_batches
        if global_api:
            handlers[GLOBAL_WATCH] = self.global_sets.watch
        self._server = GrpcServer(handlers, limits)

    async def listen(self, address: str, tls: ssl.SSLContext | None = None, *, reuse_port: bool = False) -> str:
        """Listen on "tcp://:12090" or "unix:///path"; returns the address really bound. Raises `UserError`."""
        return await self._server.listen(address, tls, reuse_port=reuse_port)

    async def close(self) -> None:
        """End all calls and stop listening."""
        await self._server.close()
        await self.local_sets.close()
        await self.global_sets.close()
