"""Requests to an API server over aiohttp, and what its refusals say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime

import aiohttp
import msgspec

from .access import Access
from .decode import MALFORMED
from .objects import Status

_MAX_RETRY_AFTER = 60.0
_MAX_MESSAGE_BYTES = 2**16
_status_decoder = msgspec.json.Decoder(Status)


class HTTPError(Exception):
    """An answer that is not of the 2xx. ``access`` is what the request was made with, ``retry_after`` in how many
    seconds the server wants to be asked again (0: it does not say)."""

    def __init__(self, status: int, message: str, retry_after: float, access: Access) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status
        self.message = message
        self.retry_after = retry_after
        self.access = access


@asynccontextmanager
async def requested(
    session: aiohttp.ClientSession,
    access: Access,
    method: str,
    path: str,
    *,
    params: Mapping[str, str] | None = None,
    data: bytes | None = None,
    user_agent: str = "kpng",
    patience: float | None = None,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer to one request, its body not yet read. ``patience``: the seconds until its head must have come.
    Raises `HTTPError`, aiohttp.ClientError, TimeoutError."""
    authentication, tls = await access.authenticate()
    headers = {"Accept": "application/json", "User-Agent": user_agent, **authentication}
    if data is not None:
        headers["Content-Type"] = "application/json"
    request = session.request(
        method,
        access.server + path,
        params=params,
        data=data,
        headers=headers,
        ssl=tls or True,
        proxy=access.proxy,
        server_hostname=access.server_hostname,
        allow_redirects=False,
    )
    async with asyncio.timeout(patience) as limit, request as response:
        if not 200 <= response.status < 300:
            raise await _error(response, access)
        limit.reschedule(None)
        yield response


async def _error(response: aiohttp.ClientResponse, access: Access) -> HTTPError:
    body = await response.content.read(_MAX_MESSAGE_BYTES)
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
