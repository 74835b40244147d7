"""What shows the API server who we are: tokens, passwords, and where they come from."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from .tls import Identity

_EARLY_SECONDS = 10.0


class CredentialsError(Exception):
    """No credentials just now; they are asked for again with the next request."""


class Grant(Struct, frozen=True):
    """``authorization`` is the header's value ("": none). ``expires``: in seconds of the epoch; None: who knows."""

    authorization: str = ""
    identity: Identity | None = None
    expires: float | None = None

    @property
    def expired(self) -> bool:
        """Or about to: a request takes its time, and clocks differ."""
        return self.expires is not None and time.time() > self.expires - _EARLY_SECONDS


class Credentials(Protocol):
    """Where grants come from."""

    async def get(self) -> Grant:
        """What to make a request with now. Raises `CredentialsError`."""


class Fixed:
    """Always the same."""

    def __init__(self, grant: Grant) -> None:
        self._grant = grant

    async def get(self) -> Grant:
        return self._grant


class TokenFile:
    """A token in a file that others replace (a projected service account token); read for every request."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def get(self) -> Grant:
        try:
            token = Path(self._path).read_text("ascii").strip()  # noqa: ASYNC240 - a line, on a tmpfs
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialsError(f"token file {self._path}: {_reason(error)}") from error
        if not token:
            raise CredentialsError(f"token file {self._path}: empty")
        return bearer(token)


class Minted:
    """Grants that somebody has to be asked for; each is used until it expires, by all requests."""

    def __init__(self) -> None:
        self._grant: Grant | None = None
        self._minting = asyncio.Lock()

    async def get(self) -> Grant:
        async with self._minting:
            if self._grant is None or self._grant.expired:
                self._grant = await self.mint()
            return self._grant

    async def mint(self) -> Grant:
        """A new one. Raises `CredentialsError`."""
        raise NotImplementedError


def bearer(token: str, expires: float | None = None) -> Grant:
    """A token as of RFC 6750."""
    return Grant(f"Bearer {token}", expires=expires)


def basic(username: str, password: str) -> Grant:
    """A name and password (RFC 7617)."""
    return Grant("Basic " + base64.b64encode(f"{username}:{password}".encode()).decode())


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "not a token"
