"""One call at one server: rounds, one after the other, by the best method that the server has."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from kpng.wire.batch_decode import BatchError
from kpng.wire.grpc import GrpcError, GrpcStatus
from kpng.wire.proto import localv1_pb2 as localv1

from .conversation import Conversation, Sync
from .grpc import ClientCall, GrpcConnection
from .servers import Server

log = logging.getLogger(__name__)

R = TypeVar("R")

REMEMBER_SECONDS = 600.0
"""How long a server is taken not to have a method: it may be replaced by a newer one."""
STEP_SECONDS = 0.005
"""How long messages are decoded before others in this process have their turn."""


class Patience(NamedTuple):
    """How long a server may be silent, and who then decides whether it is left."""

    seconds: float
    leave: Callable[[], Awaitable[bool]]


class SilentError(ConnectionError):
    """The server is there, but has no state to tell."""


class Methods(Generic[R]):
    """The ways of asking, best first, and which servers are known not to have which."""

    def __init__(self, conversations: Sequence[Conversation[R]]) -> None:
        self._conversations = conversations
        self._useless: dict[tuple[str, str], float] = {}

    def best(self, server: Server) -> Conversation[R]:
        """Of those that may work; the last one is never given up."""
        now = time.monotonic()
        for conversation in self._conversations[:-1]:
            if self._useless.get((server.name, conversation.path), 0.0) <= now:
                return conversation
        return self._conversations[-1]

    def give_up(self, server: Server, conversation: Conversation[R]) -> bool:
        """It did not work; whether there is another one."""
        if conversation is self._conversations[-1]:
            return False
        now = time.monotonic()
        self._useless = {key: until for key, until in self._useless.items() if until > now}
        self._useless[server.name, conversation.path] = now + REMEMBER_SECONDS
        return True


class Session(Generic[R]):
    """Rounds from one server. ``heard`` is called when something of a state has come from it."""

    def __init__(
        self, server: Server, connection: GrpcConnection, methods: Methods[R], heard: Callable[[], None]
    ) -> None:
        self.server = server
        self.position: localv1.Position | None = None
        """Where the last round ended."""
        self._started = asyncio.get_running_loop().time()
        self._connection = connection
        self._methods = methods
        self._heard = heard
        self._conversation = methods.best(server)
        self._call: ClientCall | None = None

    @classmethod
    async def open(
        cls,
        server: Server,
        tls: ssl.SSLContext | None,
        methods: Methods[R],
        heard: Callable[[], None] = lambda: None,
        *,
        connect_seconds: float = 10.0,
    ) -> Session[R]:
        """Connect. Raises ``OSError``."""
        connection = await GrpcConnection.connect(
            server.address, tls, connect_seconds=connect_seconds, at=[server.at]
        )
        return cls(server, connection, methods, heard)

    @property
    def age(self) -> float:
        """Seconds since it is there."""
        return asyncio.get_running_loop().time() - self._started

    @property
    def going_away(self) -> asyncio.Event:
        """Set when the server wants this session to end."""
        return self._connection.going_away

    async def close(self) -> None:
        await self._connection.close()

    async def first_round(self, position: localv1.Position | None, patience: Patience | None = None) -> R:
        """All that is new since a position, or everything where the server does not know that.

        Raises `SilentError` where nothing comes and patience has an end, else as `next_round`.
        """
        self.position = position
        return await self._round(patience)

    async def next_round(self) -> R:
        """What has changed since the last round, once there is something.

        Raises ``OSError``, ``EOFError`` or `GrpcError`, each in one clear line.
        """
        return await self._round(None)

    async def _round(self, patience: Patience | None) -> R:
        while True:
            conversation = self._conversation
            try:
                call = await self._ask(conversation)
                return await self._collect(call, conversation, patience)
            except GrpcError as error:
                if error.status is not GrpcStatus.UNIMPLEMENTED or not self._fall_back(conversation):
                    raise
            except BatchError as error:
                if not self._fall_back(conversation):
                    raise GrpcError(GrpcStatus.INTERNAL, f"the server sent {error}") from error
                log.warning("%s sent %s; asking it for single ops instead", self.server.name, error)

    def _fall_back(self, conversation: Conversation[R]) -> bool:
        """To the next best method, on the same connection. It begins anew."""
        if not self._methods.give_up(self.server, conversation):
            return False
        if self._call is not None:
            self._call.cancel()
        self._call, self.position = None, None
        self._conversation = self._methods.best(self.server)
        return True

    async def _ask(self, conversation: Conversation[R]) -> ClientCall:
        """For a round; the first one of a call may go on where another call ended."""
        position = None
        if self._call is None:
            self._call = await self._connection.open(conversation.path)
            position = self.position
        await self._call.send(conversation.request(position))
        return self._call

    async def _collect(self, call: ClientCall, conversation: Conversation[R], patience: Patience | None) -> R:
        collected = conversation.new_round()
        sync: Sync | None = None
        while sync is None:
            messages = await _receive(call, patience)
            if messages != [conversation.greeting]:
                self._heard()
            async for message in _in_steps(messages):
                if sync is not None:
                    raise GrpcError(GrpcStatus.INTERNAL, "the server sent more than was asked for")
                sync = conversation.collect(message, collected)
        self.position = sync.position
        return collected


async def _receive(call: ClientCall, patience: Patience | None) -> list[bytes]:
    if patience is None:
        return await call.receive()
    while True:
        try:
            async with asyncio.timeout(patience.seconds):
                return await call.receive()
        except TimeoutError:
            if await patience.leave():
                raise SilentError(f"no state within {patience.seconds:g} s") from None


async def _in_steps(messages: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Others in this process have their turn in between."""
    loop = asyncio.get_running_loop()
    pause_at = loop.time() + STEP_SECONDS
    for message in messages:
        yield message
        if loop.time() >= pause_at:
            await asyncio.sleep(0)
            pause_at = loop.time() + STEP_SECONDS
