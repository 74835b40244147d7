"""Writes to an API server, over aiohttp."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext
from urllib.parse import urlencode

import aiohttp
import msgspec
from aiohttp.connector import SocketFactoryType

from kpng.kube.access import Access, AccessOptions, load_access
from kpng.kube.backoff import Backoff
from kpng.kube.credentials import CredentialsError
from kpng.kube.http import HTTPError, requested
from kpng.model import UserError

from .churn import Write
from .objects import Object

log = logging.getLogger(__name__)

_PATHS = {
    "Namespace": "/api/v1/namespaces",
    "Node": "/api/v1/nodes",
    "Service": "/api/v1/namespaces/{}/services",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
}
_ALL = {
    "Namespace": "/api/v1/namespaces",
    "Node": "/api/v1/nodes",
    "Service": "/api/v1/services",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/endpointslices",
}
_METHODS = {"create": "POST", "update": "PUT", "delete": "DELETE"}
_PAGE = 500
_CONNECT_SECONDS, _REQUEST_SECONDS = 10.0, 60.0


class WriteError(Exception):
    """The API server refuses, and would again."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status


class NoAnswerError(Exception):
    """The API server has been away, or unwell, for longer than we wait."""


class ApiWriter:
    """A session with one API server. What it does not do for reasons of its own (it is away, or starts, or is
    overloaded: 429 with Retry-After) is tried again for ``patience`` seconds. ``socket_factory``: of connections
    that are to be made elsewhere, in a network namespace.
    """

    def __init__(
        self, access: Access, patience: float = 60.0, socket_factory: SocketFactoryType | None = None
    ) -> None:
        self.server = access.server
        self._access = access
        self._patience = patience
        self._complained = False
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS, sock_connect=_CONNECT_SECONDS),
            connector=aiohttp.TCPConnector(limit=0, socket_factory=socket_factory),
        )

    async def __aenter__(self) -> ApiWriter:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def write(self, write: Write) -> None:
        """Carry out one write, however the object stands now: what is to be created may be there already, what is
        to be deleted may be gone. Raises `WriteError`, `NoAnswerError`; `UserError` if the server does not let us.
        """
        try:
            await self.request(_METHODS[write.verb], _path(write), None if write.verb == "delete" else write.object)
        except WriteError as error:
            other = _other_way(write, error.status)
            if other is not None:
                await self.write(other)
            elif not _is_so_already(write, error.status):
                raise

    def together(self) -> AbstractContextManager[None]:
        """For the writes in this block it does not matter when they are done, until it ends. Here all are done at
        once."""
        return nullcontext()

    async def list(self, kind: str, selector: str = "") -> AsyncIterator[Object]:
        """All objects of a kind, page by page."""
        token = ""
        while True:
            query = {"labelSelector": selector, "limit": str(_PAGE), "continue": token}
            page = await self.request("GET", f"{_ALL[kind]}?{urlencode(query)}")
            for thing in page.get("items") or ():
                yield thing | {"kind": kind}
            token = page.get("metadata", {}).get("continue", "")
            if not token:
                return

    async def request(self, method: str, path: str, body: Object | None = None) -> Object:
        """One request, until it is answered for good. Raises as `write` does."""
        data = msgspec.json.encode(body) if body is not None else None
        loop, backoff = asyncio.get_running_loop(), Backoff()
        end = loop.time() + self._patience
        while True:
            try:
                answer = await self._send(method, path, data)
            except (HTTPError, aiohttp.ClientError, TimeoutError, OSError) as error:
                wait = backoff.next(error.retry_after if isinstance(error, HTTPError) else 0.0)
                if loop.time() + wait > end:
                    raise NoAnswerError(f"{self.server} does not answer: {_reason(error)}") from error
                self._complain(error)
                await asyncio.sleep(wait)
            else:
                self._complained = False
                return answer

    async def _send(self, method: str, path: str, data: bytes | None) -> Object:
        """Raises `HTTPError` only where it helps to ask again: the server is overloaded, or in trouble itself."""
        try:
            request = requested(self._session, self._access, method, path, data=data, user_agent="kpng-load")
            async with request as response:
                answer: Object = msgspec.json.decode(await response.read())
                return answer
        except CredentialsError as error:
            raise UserError(f"{self.server}: {error}") from error
        except HTTPError as error:
            if error.status in (401, 403):
                said = f"{self.server} refuses {method} {path.partition('?')[0]}: {error.message}"
                raise UserError(said) from error
            if error.status != 429 and error.status < 500:
                raise WriteError(error.status, error.message) from error
            raise

    def _complain(self, error: Exception) -> None:
        """Once, not for each of the writes that wait."""
        if not self._complained:
            self._complained = True
            log.warning("%s: %s; trying again", self.server, _reason(error))


async def connect(options: AccessOptions) -> ApiWriter:
    """Make a writer; no request is sent yet. Raises `kpng.UserError`."""
    return ApiWriter(await load_access(options))


def _path(write: Write) -> str:
    metadata = write.object["metadata"]
    path = _PATHS[write.object["kind"]].format(metadata.get("namespace", ""))
    return path if write.verb == "create" else f"{path}/{metadata['name']}"


def _other_way(write: Write, status: int) -> Write | None:
    """What was made before, by us or by a run before us, is brought up to date; what is gone is made again."""
    if write.object["kind"] != "EndpointSlice":
        return None
    if write.verb == "create" and status == 409:
        return Write("update", write.object)
    return Write("create", write.object) if write.verb == "update" and status == 404 else None


def _is_so_already(write: Write, status: int) -> bool:
    return (write.verb, status) in (("create", 409), ("delete", 404))


def _reason(error: Exception) -> str:
    """aiohttp's own words for a failed connection are about TLS, whatever the reason."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return str(error.os_error)
    return str(error) or type(error).__name__
