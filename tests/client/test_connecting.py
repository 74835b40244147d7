"""On the way to a connection: addresses that do not answer, tasks that are cancelled."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from kpng.client import _connection, grpc
from kpng.client.grpc import GrpcConnection
from kpng.server.grpc import GrpcServer
from kpng.wire.http2 import Event, Keepalive, SettingsReceived

PATIENCE = 5


@pytest.fixture
def black_hole() -> Iterator[tuple[int, Any]]:
    """An address whose kernel drops every further SYN: the queue of what was not accepted is full (listen(2))."""
    queued = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            queued.append(sock)
        yield socket.AF_INET, listener.getsockname()
    for sock in queued:
        sock.close()


async def test_an_address_that_swallows_everything_leaves_time_for_the_next(
    black_hole: tuple[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with an IPv6 address that leads nowhere and an IPv4 address that works."""
    server = GrpcServer({})
    address = await server.listen("tcp://127.0.0.1:0")
    good = (socket.AF_INET, ("127.0.0.1", int(address.rpartition(":")[2])))

    async def both(_: object) -> list[tuple[int, Any]]:
        return [black_hole, good]

    monkeypatch.setattr(grpc, "_resolve", both)
    connection = await GrpcConnection.connect(address, connect_seconds=1)
    assert connection.is_open
    await connection.close()
    await server.close()


async def test_where_nobody_answers_the_time_is_kept(
    black_hole: tuple[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def twice(_: object) -> list[tuple[int, Any]]:
        return [black_hole, black_hole]

    monkeypatch.setattr(grpc, "_resolve", twice)
    with pytest.raises(TimeoutError, match=r"tcp://brain:1: no answer within 0\.2 s"):
        await asyncio.wait_for(GrpcConnection.connect("brain:1", connect_seconds=0.2), PATIENCE)


async def test_a_task_cancelled_when_the_server_answers_leaves_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = GrpcServer({})
    address = await server.listen("tcp://127.0.0.1:0")
    handle = _connection.ClientConnection.handle

    def cancel_too(connection: _connection.ClientConnection, event: Event) -> None:
        handle(connection, event)
        if isinstance(event, SettingsReceived):
            connecting.cancel()

    monkeypatch.setattr(_connection.ClientConnection, "handle", cancel_too)
    connecting = asyncio.create_task(GrpcConnection.connect(address))
    with pytest.raises(asyncio.CancelledError):
        await connecting
    async with asyncio.timeout(PATIENCE):
        while server.connection_count:  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.01)
    await server.close()


async def test_a_loss_that_nobody_waits_for_is_no_error() -> None:
    """The task that connected was cancelled before it came to wait for the server's first words."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    connection = _connection.ClientConnection(Keepalive(), "tcp://brain:1")
    connection.lost("gone")
    del connection
    gc.collect()
    assert complaints == []
