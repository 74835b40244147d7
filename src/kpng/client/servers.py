"""Which server to go to: any of those that the addresses lead to now, but for those that have just failed."""

from __future__ import annotations

import asyncio
import random
import socket
from dataclasses import dataclass
from typing import Any

from kpng.wire.address import TcpAddress, UnixAddress, parse_address

LOOKUP_SECONDS = 5.0

SocketAddress = tuple[int, Any]
"""A family of `socket`, and an address as its sockets take it."""


@dataclass(frozen=True)
class Server:
    """One of the servers. ``name`` is what people are told."""

    name: str
    address: str
    at: SocketAddress


class Servers:
    """The servers behind "HOST:PORT" and "unix:///PATH", one or several of them, separated by commas.

    A name stands for all its addresses, which are looked up for every attempt; while the lookup fails, those that
    it gave last count. Raises `UserError` on what is no address.
    """

    def __init__(self, text: str) -> None:
        self._addresses = list(dict.fromkeys(parse_address(part.strip()) for part in text.split(",")))
        self._known: dict[TcpAddress | UnixAddress, list[SocketAddress]] = {}
        self._failed: set[SocketAddress] = set()
        self._latest: list[Server] = []

    @property
    def name(self) -> str:
        """All of them, for people."""
        return ", ".join(map(str, self._addresses))

    @property
    def count(self) -> int:
        """How many there were at the last `pick`."""
        return len(self._latest)

    async def pick(self) -> Server:
        """One at random that has not failed since the last `forgive`. Raises ``OSError`` where there is none."""
        self._latest = await self._lookup()
        return random.choice(self._untried() or self._latest)

    async def all(self) -> list[Server]:
        """Every one of them, in any order. Raises ``OSError`` where there is none."""
        found = await self._lookup()
        return random.sample(found, len(found))

    async def others(self, than: Server) -> bool:
        """Whether there is any other now."""
        try:
            return any(server.at != than.at for server in await self._lookup())
        except OSError:
            return False

    def failed(self, server: Server) -> bool:
        """Don't pick it for now; whether there is any left to try."""
        self._failed.add(server.at)
        return bool(self._untried())

    def forgive(self) -> None:
        """All of them may be picked again."""
        self._failed.clear()

    def _untried(self) -> list[Server]:
        return [server for server in self._latest if server.at not in self._failed]

    async def _lookup(self) -> list[Server]:
        found = await asyncio.gather(*map(self._resolve, self._addresses), return_exceptions=True)
        places: dict[SocketAddress, TcpAddress | UnixAddress] = {}
        failure: BaseException = OSError("the name has no address")
        for address, result in zip(self._addresses, found, strict=True):
            if isinstance(result, BaseException):
                failure = result
            else:
                self._known[address] = result
            places |= {at: address for at in self._known.get(address, ()) if at not in places}
        if not places:
            raise failure
        return [Server(_name(address, at, len(places)), str(address), at) for at, address in places.items()]

    @staticmethod
    async def _resolve(address: TcpAddress | UnixAddress) -> list[SocketAddress]:
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                return await resolve(address)
        except TimeoutError as error:
            raise TimeoutError(f"{address}: the name was not resolved within {LOOKUP_SECONDS:g} s") from error
        except OSError as error:
            raise ConnectionError(f"{address}: {error.strerror or error}") from error


async def resolve(address: TcpAddress | UnixAddress) -> list[SocketAddress]:
    """All that an address leads to. Raises ``OSError``."""
    if isinstance(address, UnixAddress):
        return [(socket.AF_UNIX, address.path)]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host or "localhost", address.port, type=socket.SOCK_STREAM)
    return [(family, at) for family, _, _, _, at in found]


def _name(address: TcpAddress | UnixAddress, at: SocketAddress, count: int) -> str:
    """The address as it was given, and which of several servers behind it."""
    if count == 1 or isinstance(address, UnixAddress) or at[1][0] == address.host:
        return str(address)
    return f"{address} ({at[1][0]})"
