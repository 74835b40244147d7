"""The reflectors' session with the API server: lists and watches."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from .access import Access, AccessOptions, load_access
from .http import requested
from .reflector import Request

_CONNECT_SECONDS = 15.0
_STREAM_SECONDS = 30.0  # until its head is there: that of a watch comes at once, whatever happens later
_RENEW_SECONDS = 10.0
_SOCKET_OPTIONS = {
    socket.TCP_KEEPIDLE: 30,
    socket.TCP_KEEPINTVL: 10,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 30_000,
}


class KubeClient:
    """A session with one API server. Use as an async context manager."""

    def __init__(self, options: AccessOptions, access: Access) -> None:
        self._options = options
        self._access = access
        self._renewed = -_RENEW_SECONDS
        self._renewing = asyncio.Lock()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            connector=aiohttp.TCPConnector(socket_factory=_socket, use_dns_cache=False),
            read_bufsize=2**21,
        )

    @property
    def server(self) -> str:
        return self._access.server

    async def __aenter__(self) -> KubeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def read(self, request: Request) -> bytes:
        """The whole answer. Raises `HTTPError`, aiohttp.ClientError, TimeoutError."""
        async with self._get(request) as response:
            return await response.read()

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        """The answer's chunks as they come. Raises as `read` does."""
        async with self._get(request) as response:
            yield response.content.iter_any()

    async def renew(self, refused: Access) -> bool:
        """Whether there may be better credentials than the refused ones (a token has expired): they are read
        again, but not more often than every few seconds. Raises `kpng.UserError`.
        """
        async with self._renewing:
            if self._access is not refused:
                return True
            if time.monotonic() - self._renewed < _RENEW_SECONDS:
                return False
            self._renewed = time.monotonic()
            self._access = await load_access(self._options, self._access)
            return True

    @asynccontextmanager
    async def _get(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        patience = _STREAM_SECONDS if request.stream else None
        get = requested(self._session, self._access, "GET", request.path, params=request.params, patience=patience)
        async with asyncio.timeout(request.timeout), get as response:
            yield response


async def connect(options: AccessOptions) -> KubeClient:
    """Make a client; no request is sent yet. Raises `kpng.UserError`."""
    return KubeClient(options, await load_access(options))


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A connection of which the kernel finds out within a minute that the other end is gone, also while nothing is
    sent: keepalive, and a limit for what is not acknowledged (tcp(7)). Silence says nothing: where nothing changes,
    not even bookmarks come."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _SOCKET_OPTIONS.items():
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made
