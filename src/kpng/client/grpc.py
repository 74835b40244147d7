"""A gRPC client on asyncio that hands over all messages that have arrived at once."""

from __future__ import annotations

import ssl
from collections.abc import Mapping


class EndOfStream(EOFError):  # noqa: N818 -- not a failure: the server ended the call with OK
    """The server has ended the call with status OK."""


class GrpcConnection:
    """One HTTP/2 connection, for any number of calls."""

    @classmethod
    async def connect(
        cls, address: str, tls: ssl.SSLContext | None = None, *, connect_seconds: float = 10
    ) -> GrpcConnection:
        """Connect to "127.0.0.1:12090", "name:port", "tcp://[::1]:1" or "unix:///path"."""
        raise NotImplementedError

    async def open(self, path: str, metadata: Mapping[str, str] = {}) -> ClientCall:
        """Start a call."""
        raise NotImplementedError

    async def close(self) -> None:
        """Say GOAWAY and close; calls still open end with ConnectionError."""
        raise NotImplementedError


class ClientCall:
    """One call."""

    async def send(self, message: bytes) -> None:
        """Send one message (unframed)."""
        raise NotImplementedError

    async def receive(self) -> list[bytes]:
        """All messages that have arrived, at least one. Raises GrpcError, EndOfStream or ConnectionError."""
        raise NotImplementedError

    async def half_close(self) -> None:
        """Nothing more will be sent; the server may go on."""
        raise NotImplementedError

    def cancel(self) -> None:
        """End the call at once, whatever its state."""
        raise NotImplementedError
