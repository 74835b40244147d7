"""A gRPC server on asyncio whose calls send bytes that were made once and are shared by all of them."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from ._call import Handler, Limits, ServerCall

__all__ = ["GrpcServer", "Handler", "Limits", "ServerCall"]


class GrpcServer:
    """Serves gRPC methods by path ("/package.Service/Method")."""

    def __init__(self, handlers: Mapping[str, Handler], limits: Limits = Limits()) -> None:
        raise NotImplementedError

    async def listen(self, address: str, tls: ssl.SSLContext | None = None) -> str:
        """Listen on "tcp://:12090", "tcp://[::1]:0" or "unix:///path"; returns the address really bound."""
        raise NotImplementedError

    async def close(self, grace_seconds: float = 1.0) -> None:
        """Say GOAWAY, cancel the handlers and close."""
        raise NotImplementedError
