"""Connections have an age: clients are asked to go, in time and not all at once, and cut if they stay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from kpng.client.grpc import GrpcConnection
from kpng.server import _connection
from kpng.server.grpc import GrpcServer, Limits, ServerCall
from kpng.wire.grpc import GrpcError, GrpcStatus, frame
from kpng.wire.http2 import Keepalive

LOCAL = "tcp://127.0.0.1:0"
PATIENCE = 5


async def echo(call: ServerCall) -> None:
    while (message := await call.receive()) is not None:
        await call.send([frame(message)])


@asynccontextmanager
async def serving(age: float, grace: float = 60.0) -> AsyncIterator[tuple[GrpcServer, str]]:
    server = GrpcServer(
        {"/t/echo": echo}, Limits(max_connection_age_seconds=age, max_connection_age_grace_seconds=grace)
    )
    try:
        yield server, await server.listen(LOCAL)
    finally:
        await server.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.005)


async def test_a_call_goes_on_and_no_new_one_may_begin() -> None:
    async with serving(0.05) as (_, address):
        connection = await GrpcConnection.connect(address)
        call = await connection.open("/t/echo")
        await asyncio.wait_for(connection.going_away.wait(), PATIENCE)
        await call.send(b"still here")
        assert await call.receive() == [b"still here"]
        with pytest.raises(ConnectionError, match="the server goes away: the connection is old enough"):
            await connection.open("/t/echo")
        await connection.close()


async def test_who_stays_is_cut_and_told_so() -> None:
    async with serving(0.05, 0.05) as (server, address):
        connection = await GrpcConnection.connect(address)
        call = await connection.open("/t/echo")
        with pytest.raises(GrpcError, match="the connection is old enough") as raised:
            await asyncio.wait_for(call.receive(), PATIENCE)
        assert raised.value.status is GrpcStatus.UNAVAILABLE
        await until(lambda: server.connection_count == 0)
        await connection.close()


async def test_when_its_last_call_ends_an_old_connection_is_closed() -> None:
    async with serving(0.05) as (server, address):
        connection = await GrpcConnection.connect(address)
        call = await connection.open("/t/echo")
        await asyncio.wait_for(connection.going_away.wait(), PATIENCE)
        assert server.connection_count == 1
        await call.half_close()
        await until(lambda: server.connection_count == 0)
        await connection.close()


async def test_who_has_no_call_is_closed_at_once() -> None:
    async with serving(0.05) as (server, address):
        connection = await GrpcConnection.connect(address)
        await until(lambda: server.connection_count == 0)
        await connection.close()


async def test_a_client_that_does_not_read_is_cut_too() -> None:
    async with serving(0.05, 0.05) as (server, address):
        connection = await GrpcConnection.connect(address, keepalive=Keepalive())
        call = await connection.open("/t/echo")
        await call.send(bytes(1 << 21))
        transport: Any = connection._connection._transport
        transport.pause_reading()
        await until(lambda: server.connection_count == 0)
        connection._connection.abort()


@pytest.mark.parametrize("age", [0.0, 60.0])
async def test_the_young_stay(age: float) -> None:
    async with serving(age) as (server, address):
        connection = await GrpcConnection.connect(address)
        await asyncio.sleep(0.2)
        assert server.connection_count == 1
        assert not connection.going_away.is_set()
        await connection.close()


async def test_those_that_came_together_do_not_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    ages: list[float] = []
    grow_old = _connection.ServerConnection._grow_old

    def note(self: _connection.ServerConnection) -> None:
        ages.append(asyncio.get_running_loop().time())
        grow_old(self)

    monkeypatch.setattr(_connection.ServerConnection, "_grow_old", note)
    async with serving(0.5) as (_, address):
        connections = await asyncio.gather(*(GrpcConnection.connect(address) for _ in range(50)))
        started = asyncio.get_running_loop().time()
        await until(lambda: len(ages) == 50)
        for connection in connections:
            await connection.close()
    lifetimes = sorted(age - started for age in ages)
    assert lifetimes[0] > 0.35
    assert lifetimes[-1] - lifetimes[0] > 0.05, "spread over a fifth of the age"


async def test_a_client_of_the_reference_implementation_comes_again() -> None:
    """As the Go kpng's does: its call goes on for the grace time, and a new one finds a new connection."""
    async with serving(0.1, 0.3) as (_, address):
        channel = grpc.aio.insecure_channel(address.removeprefix("tcp://"))
        method = channel.stream_stream("/t/echo")
        codes, answers = [], 0
        for _ in range(3):
            call = method()
            try:
                while True:
                    await call.write(b"hello")
                    answers += await call.read() == b"hello"
                    await asyncio.sleep(0.01)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                codes.append(await call.code())
        await channel.close()
    # INTERNAL where the connection ends while grpcio is writing: it comes again all the same
    assert len(codes) == 3
    assert set(codes) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL}
    assert answers > 30
