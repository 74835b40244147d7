"""GET requests to the API server, over aiohttp."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp
import msgspec

from .access import Access, AccessOptions, load_access
from .decode import MALFORMED
from .objects import Status
from .reflector import Request

_CONNECT_SECONDS = 15.0
_RENEW_SECONDS = 10.0
_MAX_RETRY_AFTER = 60.0
_SOCKET_OPTIONS = {
    socket.TCP_KEEPIDLE: 30,
    socket.TCP_KEEPINTVL: 10,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 30_000,
}
_status_decoder = msgspec.json.Decoder(Status)


class HTTPError(Exception):
    """An answer that is not 200. ``access`` is what the request was made with."""

    def __init__(self, status: int, message: str, retry_after: float, access: Access) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status
        self.retry_after = retry_after
        self.access = access


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
            trust_env=not _is_loopback(access.server),
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
        access = self._access
        headers = {"Accept": "application/json", "User-Agent": "kpng", **await access.headers()}
        get = self._session.get(
            access.server + request.path,
            params=request.params,
            headers=headers,
            ssl=await access.tls() or True,
            proxy=access.proxy,
            server_hostname=access.server_hostname,
            allow_redirects=False,
        )
        async with asyncio.timeout(request.timeout), get as response:
            if response.status != 200:
                raise await _error(response, access)
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


def _is_loopback(server: str) -> bool:
    """Go programs (kubectl) never ask a proxy from the environment for the machine itself; nor do we."""
    host = urlsplit(server).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


async def _error(response: aiohttp.ClientResponse, access: Access) -> HTTPError:
    body = await response.content.read(65536)
    try:
        message = _status_decoder.decode(body).message
    except MALFORMED:
        message = body[:200].decode(errors="replace").strip()
    seconds = _retry_after(response.headers.get("Retry-After", ""))
    return HTTPError(response.status, message or response.reason or "", seconds, access)


def _retry_after(text: str) -> float:
    """In how many seconds to come back: a number or a date (RFC 9110, section 10.2.3); 0 where it is neither."""
    try:
        seconds = float(text) if text.isdecimal() else parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER)
