"""Clients that do anything in any order: others are served meanwhile, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import random

import pytest

from kpng.client.grpc import ClientCall, EndOfStream, GrpcConnection
from kpng.server.grpc import GrpcServer, Limits, ServerCall
from kpng.wire.grpc import GrpcError, GrpcStatus, frame
from kpng.wire.http2 import ConnectionLimits

CLIENTS, STEPS = 12, 25
EXPECTED = (GrpcError, EndOfStream, ConnectionError)


async def moody(call: ServerCall) -> None:
    """Does what each message says."""
    while (message := await call.receive()) is not None:
        match message.partition(b" "):
            case (b"echo", _, text):
                await call.send([frame(text)])
            case (b"blob", _, size):
                await call.send([frame(bytes(1000))] * int(size))
            case (b"fail", _, _):
                raise GrpcError(GrpcStatus.ABORTED, "as you wish")
            case _:
                return


async def step(connection: GrpcConnection, calls: list[ClientCall], dice: random.Random) -> None:
    """One thing a client may do to one of its calls."""
    if not calls or dice.random() < 0.3:
        calls.append(await connection.open("/t/x" if dice.random() < 0.9 else "/t/nothing"))
        return
    call = dice.choice(calls)
    match dice.randrange(7):
        case 0:
            await call.send(b"echo " + bytes(dice.randrange(200_000)))
        case 1:
            await call.send(b"blob %d" % dice.randrange(2000))
        case 2:
            await call.send(dice.choice((b"fail", b"end")))
        case 3:
            await call.half_close()
        case 4:
            call.cancel()
            calls.remove(call)
        case _:
            await call.receive()


async def misbehave(address: str, seed: int) -> None:
    dice = random.Random(seed)
    connection = await GrpcConnection.connect(address)
    calls: list[ClientCall] = []
    for _ in range(STEPS):
        try:
            async with asyncio.timeout(0.02):  # whoever only sends is held up, and so is whoever only receives
                await step(connection, calls, dice)
        except (TimeoutError, *EXPECTED):
            continue
    if dice.random() < 0.5:
        await connection.close()
    else:
        connection._connection.abort()


async def behave(address: str, done: asyncio.Event) -> int:
    """A client as it should be, which must not notice the others."""
    connection = await GrpcConnection.connect(address)
    call, rounds = await connection.open("/t/x"), 0
    while not done.is_set():
        await call.send(b"echo %d" % rounds)
        async with asyncio.timeout(5):
            assert await call.receive() == [b"%d" % rounds]
        rounds += 1
    await connection.close()
    return rounds


async def settled(server: GrpcServer) -> None:
    async with asyncio.timeout(5):
        while server.connection_count or len(asyncio.all_tasks()) > 2:  # noqa: ASYNC110 -- polls what has no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_left_of_clients_that_do_anything(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    server = GrpcServer({"/t/x": moody}, Limits(max_streams_per_connection=8))
    address = await server.listen("tcp://127.0.0.1:0")
    done = asyncio.Event()
    good = asyncio.create_task(behave(address, done))
    await asyncio.gather(*(misbehave(address, seed * 1000 + number) for number in range(CLIENTS)))
    done.set()
    assert await good > 0
    await settled(server)
    await server.close()
    gc.collect()
    assert not [thing for thing in gc.get_objects() if isinstance(thing, ServerCall)]
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_connections_that_come_and_go_leave_nothing() -> None:
    server = GrpcServer({"/t/x": moody})
    address = await server.listen("tcp://127.0.0.1:0")
    for _ in range(200):
        connection = await GrpcConnection.connect(address)
        call = await connection.open("/t/x")
        await call.send(b"echo x")
        assert await call.receive() == [b"x"]
        await connection.close()
    await settled(server)
    await server.close()


def test_the_windows_of_a_call_hold_a_message_of_the_largest_size() -> None:
    """A message that is not complete yet is given back at once, so that it may be longer than the window."""
    assert ConnectionLimits().initial_window < Limits().max_message_bytes
