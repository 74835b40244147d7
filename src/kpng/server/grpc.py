"""A gRPC server on asyncio whose calls send bytes that were made once and are shared by all of them."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Iterable, Mapping

from kpng.wire.tls import handshake_fault

from ._call import Handler, Limits, ServerCall
from ._complaints import Complaints
from ._connection import ServerConnection
from ._listen import Listener, allow_descriptors, open_listener

__all__ = ["GrpcServer", "Handler", "Limits", "ServerCall"]

logger = logging.getLogger(__name__)

ACCEPT_PAUSE_SECONDS = 1.0
"""After accept(2) has failed, mostly because the process has no file descriptors left."""

SPARE_DESCRIPTORS = 1024
"""For what else the process has open."""


class GrpcServer:
    """Serves gRPC methods by path ("/package.Service/Method"), on any number of addresses."""

    def __init__(self, handlers: Mapping[str, Handler], limits: Limits | None = None) -> None:
        self._handlers = handlers
        self._limits = limits or Limits()
        self._listeners: list[Listener] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._connections: set[ServerConnection] = set()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._complaints = Complaints()
        self._full = False
        self._empty = asyncio.Event()

    @property
    def connection_count(self) -> int:
        """Clients connected, those in their TLS handshake included."""
        return len(self._connections) + len(self._handshakes)

    async def listen(self, address: str, tls: ssl.SSLContext | None = None, *, reuse_port: bool = False) -> str:
        """Listen on "tcp://:12090", "tcp://[::1]:0" or "unix:///path"; returns the address really bound.

        ``reuse_port``: other processes may serve on the same port, and get their share of the clients.
        Raises `UserError` if the address is malformed, taken or not allowed.
        """
        allow_descriptors(self._limits.max_connections + SPARE_DESCRIPTORS)
        listener = open_listener(address, reuse_port=reuse_port)
        self._listeners.append(listener)
        self._accepting.append(asyncio.create_task(self._accept(listener, tls)))
        bound = str(listener.address)
        logger.info("serving on %s%s", bound, " (TLS)" if tls else "", extra={"event": "serving", "address": bound})
        return bound

    async def close(self, grace_seconds: float = 1.0) -> None:
        """Stop listening, say GOAWAY, cancel the handlers, and give all that time to reach the clients."""
        await _cancel(self._accepting)
        for listener in self._listeners:
            listener.close()
        await _cancel(self._handshakes)
        calls = [task for connection in self._connections for task in connection.shut_down()]
        if calls:
            await asyncio.wait(calls, timeout=grace_seconds)
        for connection in self._connections:
            connection.close()
        await self._wait_empty(grace_seconds)
        for connection in list(self._connections):
            connection.abort()
        await self._wait_empty(grace_seconds)

    async def _wait_empty(self, seconds: float) -> None:
        self._empty.clear()
        if not self._connections:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            pass

    async def _accept(self, listener: Listener, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        failing = False
        while True:
            try:
                sock, address = await loop.sock_accept(listener.socket)
            except OSError as error:
                if not failing:
                    logger.error("%s: cannot accept connections: %s", listener.address, error)
                failing = True
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            failing = False
            self._admit(sock, listener.peer(address), tls)
            await asyncio.sleep(0)  # a burst of thousands must not keep those already here waiting

    def _admit(self, sock: socket.socket, peer: str, tls: ssl.SSLContext | None) -> None:
        full = self.connection_count >= self._limits.max_connections
        if full and not self._full:
            logger.error("refusing connections: there are %d, as many as allowed", self.connection_count)
        self._full = full
        if full:
            sock.close()
            return
        task = asyncio.create_task(self._handshake(sock, peer, tls))
        self._handshakes.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._handshakes.discard(task)
            if task.cancelled():  # perhaps before its first step, so that nobody else would
                sock.close()

        task.add_done_callback(done)

    async def _handshake(self, sock: socket.socket, peer: str, tls: ssl.SSLContext | None) -> None:
        connection = ServerConnection(self._handlers, self._limits, peer, self._forget)
        seconds = self._limits.handshake_seconds if tls else None
        try:
            self._limits.keepalive.tune(sock)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, sock, ssl=tls, ssl_handshake_timeout=seconds
            )
        except OSError as error:
            sock.close()
            reason = handshake_fault(error) if isinstance(error, ssl.SSLError) else str(error)
            self._complaints.add(peer, f"handshake failed: {reason or 'connection closed by the peer'}")
            return
        if connection.is_open:
            self._connections.add(connection)

    def _forget(self, connection: ServerConnection) -> None:
        if connection.fault is not None:
            self._complaints.add(connection.peer, f"connection closed: {connection.fault}")
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
