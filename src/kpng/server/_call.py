"""One gRPC call as its handler sees it, and the limits of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from kpng.wire.grpc import GrpcStatus, encode_message
from kpng.wire.grpc_stream import GrpcStream
from kpng.wire.http2 import ConnectionLimits, ErrorCode, Http2Protocol, Keepalive, encode_block

RESPONSE = encode_block([(b":status", b"200"), (b"content-type", b"application/grpc")])
OK_TRAILERS = encode_block([(b"grpc-status", b"0")])


@dataclass(frozen=True)
class Limits:
    """What one server grants its clients; what comes from the network is hostile until proven otherwise."""

    max_connections: int = 20_000
    max_streams_per_connection: int = 128
    max_message_bytes: int = 4 * 1024 * 1024
    handshake_seconds: float = 10.0
    keepalive_seconds: float = 30.0
    keepalive_timeout_seconds: float = 20.0
    max_connection_age_seconds: float = 0.0
    """After that, give or take a tenth, a client is told to go, so that clients spread over all servers there are,
    also those that came later. 0: never."""
    max_connection_age_grace_seconds: float = 30.0
    """What it then has for its calls, before they are cut."""

    @cached_property
    def connection(self) -> ConnectionLimits:
        """The HTTP/2 side of it, one object for all connections."""
        return ConnectionLimits(max_concurrent_streams=self.max_streams_per_connection)

    @cached_property
    def keepalive(self) -> Keepalive:
        return Keepalive(self.handshake_seconds, self.keepalive_seconds, self.keepalive_timeout_seconds)


class ServerCall(GrpcStream):
    """One gRPC call (an HTTP/2 stream)."""

    __slots__ = ("_responded", "metadata", "path", "task")

    def __init__(
        self,
        connection: Http2Protocol,
        stream_id: int,
        path: str,
        metadata: Mapping[str, str],
        max_message_bytes: int,
    ) -> None:
        super().__init__(connection, stream_id, max_message_bytes)
        self.path = path
        self.metadata = metadata
        self.task: asyncio.Task[None] | None = None
        self._responded = False

    @property
    def peer(self) -> str:
        """The client's address, for people."""
        return self._connection.peer

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The client's verified certificate, as `ssl.SSLSocket.getpeercert` gives it; None without mTLS."""
        return cast(dict[str, Any] | None, self._connection.extra("peercert"))

    async def receive(self) -> bytes | None:
        """The next request message; None once the client has half-closed.

        When the client resets the stream or the connection breaks, the handler's task is cancelled.
        """
        if not await self._wait_readable():
            return None
        message = self._inbox.pop(0)
        if not self._inbox:
            self._release()
        return message

    async def send(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Send bytes already framed as gRPC messages (possibly many); returns when the transport has them.

        The buffers are kept by reference until then, and may be shared with other calls.
        """
        if not self._responded:
            self._responded = True
            self._connection.core.send_headers(self.stream_id, RESPONSE)
        await self._send(buffers)

    def finish(self, status: GrpcStatus, message: str) -> None:
        """End the call with trailers; by a reset if it failed while sending: they would wait behind the data."""
        core = self._connection.core
        trailers = OK_TRAILERS if status is GrpcStatus.OK else _trailers(status, message)
        if core.is_pending(self.stream_id):
            core.reset(self.stream_id, ErrorCode.CANCEL)
        else:
            core.finish(self.stream_id, trailers if self._responded else RESPONSE + trailers)
        self._connection.flush()


def _trailers(status: GrpcStatus, message: str) -> bytes:
    text = encode_message(message[:1024])
    return encode_block([(b"grpc-status", str(int(status)).encode()), (b"grpc-message", text)])


Handler = Callable[[ServerCall], Awaitable[None]]
"""Serves one call. Return: OK. Raise `GrpcError`: that status. Any other exception: INTERNAL, logged."""
