"""Following a kpng API round by round, over as many connections as it takes."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError

from kpng.wire.address import parse_address
from kpng.wire.grpc import GrpcError, GrpcStatus
from kpng.wire.proto import localv1_pb2 as localv1

from .grpc import ClientCall, GrpcConnection

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 5.0


class Round(Protocol):
    """Collects the ops of one round; acted on when the round is complete, dropped when it never is."""

    def reset(self) -> None: ...
    def set(self, kind: int, path: str, value: bytes) -> None: ...
    def delete(self, kind: int, path: str) -> None: ...


R = TypeVar("R", bound=Round)


async def follow(
    address: str, method: str, request: bytes, new_round: Callable[[], R], tls: ssl.SSLContext | None = None
) -> AsyncGenerator[R, None]:
    """Complete rounds, without end; asking for the next one is what asks the server for it.

    A round that began with a reset (the first of each connection) is the whole state. When a connection is
    lost, what it had sent of a round is dropped, and another is made, with backoff.
    """
    link = _Link(address)
    while True:
        try:
            async with aclosing(_one_connection(address, method, request, new_round, tls, link)) as rounds:
                async for complete in rounds:
                    yield complete
        except (OSError, EOFError, GrpcError) as error:
            await link.lost(error)


async def ask(
    address: str, method: str, request: bytes, collected: Round, tls: ssl.SSLContext | None = None
) -> None:
    """Collect one round, the whole state, by a connection of its own; nothing is tried again.

    Raises ``OSError``, ``EOFError`` or `GrpcError`, each in one clear line.
    """
    connection = await GrpcConnection.connect(address, tls)
    try:
        call = await connection.open(method)
        await call.send(request)
        synced = False
        while not synced:
            for message in await call.receive():
                synced = _collect(message, collected)
    finally:
        await connection.close()


async def _one_connection(
    address: str,
    method: str,
    request: bytes,
    new_round: Callable[[], R],
    tls: ssl.SSLContext | None,
    link: _Link,
) -> AsyncGenerator[R, None]:
    connection = await GrpcConnection.connect(address, tls)
    try:
        call = await connection.open(method)
        while True:
            await call.send(request)
            collected = new_round()
            await _receive(call, collected, link)
            link.works()
            yield collected
    finally:
        await connection.close()


async def _receive(call: ClientCall, collected: Round, link: _Link) -> None:
    """Collect ops up to the round's Sync."""
    synced = False
    while not synced:
        messages = await call.receive()
        link.connected()
        for message in messages:
            if synced:
                raise GrpcError(GrpcStatus.INTERNAL, "the server sent more than was asked for")
            synced = _collect(message, collected)


def _collect(message: bytes, collected: Round) -> bool:
    """Add one op to the round; whether it is its Sync. Ops of a kind yet to be invented are passed over."""
    try:
        op = localv1.OpItem.FromString(message)
    except DecodeError:
        raise GrpcError(GrpcStatus.INTERNAL, "the server sent something that is no localv1.OpItem") from None
    kind = op.WhichOneof("Op")
    if kind == "Set":
        collected.set(op.Set.Ref.Set, op.Set.Ref.Path, op.Set.Bytes)
    elif kind == "Delete":
        collected.delete(op.Delete.Set, op.Delete.Path)
    elif kind == "Reset":
        collected.reset()
    return kind == "Sync"


_LINES = {
    (True, True): "%s ended the watch: %s",
    (True, False): "connection to %s lost: %s",
    (False, True): "%s refused the watch, will ask again: %s",
    (False, False): "cannot connect to %s, will keep trying: %s",
}
"""By whether the watch had worked, and whether it is the peer that says so."""


class _Link:
    """How the link to a server does: tells its ups and downs once each, and paces the attempts."""

    def __init__(self, address: str) -> None:
        self._address = str(parse_address(address))
        self._up = False
        self._told: set[str] = set()
        self._attempts = 0

    def connected(self) -> None:
        if not self._up:
            log.info("connected to %s", self._address, extra={"event": "connected"})
        self._up = True
        self._told.clear()

    def works(self) -> None:
        """A round came through, so that the next loss is a first one."""
        self._attempts = 0

    async def lost(self, error: Exception) -> None:
        """Tell it, and wait until the next attempt is due."""
        self._tell(error)
        self._up = False
        # jitter over the whole interval: a fleet that lost its brain must not come back as one
        delay = min(FIRST_RETRY_SECONDS * 2**self._attempts, LAST_RETRY_SECONDS)
        self._attempts = min(self._attempts + 1, 10)
        await asyncio.sleep(delay * random.uniform(0.5, 1))

    def _tell(self, error: Exception) -> None:
        """What became of the watch, once for each way in which it fails until it works again."""
        answered = not isinstance(error, OSError)  # the peer is there, and said no
        line = _LINES[self._up, answered]
        level = logging.DEBUG if line in self._told else logging.WARNING
        self._told.add(line)
        reason = (str(error) or type(error).__name__).removeprefix(f"{self._address}: ")
        log.log(level, line, self._address, reason, extra={"event": "disconnected"} if self._up else None)
