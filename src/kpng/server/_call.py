"""One gRPC call as its handler sees it, and the limits of a server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What one server grants its clients; what comes from the network is hostile until proven otherwise."""

    max_connections: int = 20_000
    max_streams_per_connection: int = 128
    max_message_bytes: int = 4 * 1024 * 1024
    handshake_seconds: float = 10.0
    keepalive_seconds: float = 30.0
    keepalive_timeout_seconds: float = 20.0


class ServerCall:
    """One gRPC call (an HTTP/2 stream)."""

    __slots__ = ("metadata", "path", "peer")

    path: str
    peer: str
    metadata: Mapping[str, str]

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The client's verified certificate, as `ssl.SSLSocket.getpeercert` gives it; None without mTLS."""
        raise NotImplementedError

    async def receive(self) -> bytes | None:
        """The next request message; None once the client has half-closed."""
        raise NotImplementedError

    async def send(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Send bytes already framed as gRPC messages (possibly many); returns when the transport has them."""
        raise NotImplementedError


Handler = Callable[[ServerCall], Awaitable[None]]
"""Serves one call. Return: OK. Raise `GrpcError`: that status. Any other exception: INTERNAL, logged."""
