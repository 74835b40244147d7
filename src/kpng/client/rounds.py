"""Following a kpng API round by round, over as many connections, and servers, as it takes."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from kpng.wire.grpc import GrpcError
from kpng.wire.proto import localv1_pb2 as localv1

from .conversation import Conversation
from .link import Link
from .moves import STEADY_SECONDS, Moves
from .servers import Server, Servers
from .session import Methods, Patience, Session

log = logging.getLogger(__name__)

R = TypeVar("R")
T = TypeVar("T")

FIRST_ROUND_SECONDS = 5.0
"""How long a server may be silent before another one is asked. Twice that when all of them were, and so on."""
LAST_FIRST_ROUND_SECONDS = 60.0
CONNECT_SECONDS = 10.0
CONNECT_SECONDS_OF_SEVERAL = 3.0
"""A machine that is off does not answer at all, and others may well."""
PREFER_NEW_SECONDS = 1.0
"""How long a round of a server that goes away is kept back: the one we move to tells the same."""


async def follow(
    addresses: str, conversations: Sequence[Conversation[R]], tls: ssl.SSLContext | None = None
) -> AsyncGenerator[R, None]:
    """Complete rounds, without end; asking for the next one is what asks the server for it.

    A round that began with a reset is the whole state. When a connection is lost, what it had sent of a round is
    dropped, and another is made, to another server if there is one.
    """
    watch = _Watch(Servers(addresses), Methods(conversations), tls)
    try:
        while True:
            yield await watch.next()
    finally:
        await watch.close()


async def ask(addresses: str, conversations: Sequence[Conversation[R]], tls: ssl.SSLContext | None = None) -> R:
    """One round, the whole state, by a connection of its own. Each server is tried once.

    Raises ``OSError``, ``EOFError`` or `GrpcError`, each in one clear line.
    """
    methods = Methods(conversations)
    failure: Exception = ConnectionError("there is no server")
    servers = await Servers(addresses).all()
    for number, server in enumerate(servers, 1):
        patience = Patience(FIRST_ROUND_SECONDS, _yes) if number < len(servers) else None
        try:
            session = await Session.open(server, tls, methods, connect_seconds=_connect_seconds(len(servers)))
            try:
                return await session.first_round(None, patience)
            finally:
                await session.close()
        except (OSError, EOFError, GrpcError) as error:
            failure = error
    raise failure


async def _yes() -> bool:
    return True


def _connect_seconds(servers: int) -> float:
    return CONNECT_SECONDS if servers == 1 else CONNECT_SECONDS_OF_SEVERAL


class _Watch(Generic[R]):
    """A session, and the next one when it ends."""

    def __init__(self, servers: Servers, methods: Methods[R], tls: ssl.SSLContext | None) -> None:
        self._servers = servers
        self._methods = methods
        self._tls = tls
        self._link = Link()
        self._session: Session[R] | None = None
        self._position: localv1.Position | None = None
        self._patience = FIRST_ROUND_SECONDS
        self._moves = Moves()
        self._farewells: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        self._leave()
        while self._farewells:  # one may lead to another
            await asyncio.gather(*self._farewells)

    async def next(self) -> R:
        """The next complete round, from whichever server."""
        while True:
            server = None
            try:
                if self._session is None:
                    server = await self._servers.pick()
                    self._session, collected = await self._begin(server)
                else:
                    server = self._session.server
                    collected = await self._next_or_move(self._session)
            except (OSError, EOFError, GrpcError) as error:
                await self._lost(server, error)
            else:
                self._position = self._session.position
                self._patience = FIRST_ROUND_SECONDS
                return collected

    async def _begin(self, server: Server) -> tuple[Session[R], R]:
        """Connect, and catch up."""
        seconds = _connect_seconds(self._servers.count)
        session = await Session.open(
            server, self._tls, self._methods, lambda: self._link.connected(server), connect_seconds=seconds
        )
        try:
            patience = Patience(self._patience, lambda: self._servers.others(server))
            return session, await session.first_round(self._position, patience)
        except BaseException:
            self._see_off(session)
            raise

    async def _lost(self, server: Server | None, error: Exception) -> None:
        """Another one is tried at once, all of them again after a while."""
        if self._session is not None and self._session.age >= STEADY_SECONDS:
            self._servers.forgive()
            self._link.worked()
        self._leave()
        others = server is not None and self._servers.failed(server)
        name, address = (server.name, server.address) if server else (self._servers.name, self._servers.name)
        self._link.lost(name, error, address, others=others)
        if not others:
            self._servers.forgive()
            self._patience = min(self._patience * 2, LAST_FIRST_ROUND_SECONDS)
            await self._link.pause()

    # -- leaving ---------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        if self._session is not None:
            self._see_off(self._session)
        self._session = None

    def _see_off(self, session: Session[R]) -> None:
        """Close it; that may take a moment, and nobody has to wait for it."""
        self._later(session.close())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        farewell = asyncio.create_task(work)
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    # -- moving, when a server wants us to go --------------------------------------------------------------

    async def _next_or_move(self, session: Session[R]) -> R:
        """The next round; from another server if this one wants us to go."""
        reading = asyncio.create_task(session.next_round())
        asked_to_go = asyncio.create_task(session.going_away.wait())
        try:
            await asyncio.wait({reading, asked_to_go}, return_when=asyncio.FIRST_COMPLETED)
            while asked_to_go.done() and not reading.done():
                if (moved := await self._move(session, reading)) is not None:
                    self._see_off(session)
                    self._session, collected = moved
                    return collected
            return await reading
        finally:
            await _drop(reading, asked_to_go)

    async def _move(self, session: Session[R], reading: asyncio.Task[R]) -> tuple[Session[R], R] | None:
        """Make before break: the old server is left when the new one has told what there is to tell.

        Both tell what is new since the same round, so that one of them is enough. None: it did not work (yet).
        """
        loop = asyncio.get_running_loop()
        if (wait := self._moves.wait(loop.time())) > 0:
            await asyncio.wait({reading}, timeout=wait)
            return None
        self._moves.attempt(loop.time())
        moving = asyncio.create_task(self._begin_anywhere())
        try:
            await asyncio.wait({reading, moving}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({moving}, timeout=PREFER_NEW_SECONDS)
            moved = await _stop(moving)
        except asyncio.CancelledError:
            self._later(self._abandon(moving))
            raise
        if moved is not None:
            self._moves.worked(loop.time())
            self._link.moved(session.server, moved[0].server)
        return moved

    async def _abandon(self, moving: asyncio.Task[tuple[Session[R], R] | None]) -> None:
        """Nobody waits for it any more, but it may have come to a session."""
        if (moved := await _stop(moving)) is not None:
            await moved[0].close()

    async def _begin_anywhere(self) -> tuple[Session[R], R] | None:
        """A session with any of the servers; None where it cannot be had."""
        server = None
        try:
            server = await self._servers.pick()
            begun = await self._begin(server)
        except (OSError, EOFError, GrpcError) as error:
            log.debug("cannot move: %s", error)
            if server is None or not self._servers.failed(server):
                self._servers.forgive()
            return None
        self._servers.forgive()
        return begun


async def _stop(task: asyncio.Task[T]) -> T | None:
    """End a task; its result if it has come to one."""
    task.cancel()
    await asyncio.wait({task})
    return None if task.cancelled() else task.result()


async def _drop(*tasks: asyncio.Task[Any]) -> None:
    """End tasks, whatever becomes of them."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
