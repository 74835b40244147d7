"""What the log says of a peer that does not serve the watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress

import grpc
import pytest
from tests.client.brain import listening

from kpng.client import link, watch_local
from kpng.server.grpc import GrpcServer, ServerCall
from kpng.wire.grpc import GrpcError, GrpcStatus
from kpng.wire.ops import LOCAL_WATCH, RESET, SYNC

Told = Callable[[], list[str]]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    caplog.set_level(logging.INFO, link.__name__)

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == link.__name__]

    return lines


async def watch_for_a_while(address: str, seconds: float = 0.6) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), aclosing(watch_local(address, "n1")) as changes:
            async for _ in changes:
                pass


async def forbid(_: ServerCall) -> None:
    raise GrpcError(GrpcStatus.PERMISSION_DENIED, "not you")


async def leave(_: ServerCall) -> None:
    """End the call with OK."""


async def begin_and_forbid(call: ServerCall) -> None:
    await call.send([RESET, SYNC])
    raise GrpcError(GrpcStatus.PERMISSION_DENIED, "not any more")


@pytest.mark.parametrize(
    ("handler", "line"),
    [
        (forbid, "{} refused the watch, will ask again: PERMISSION_DENIED: not you"),
        (leave, "{} refused the watch, will ask again: OK"),
    ],
)
async def test_a_refusal_is_told_once_in_the_peers_words(
    handler: Callable[[ServerCall], Awaitable[None]], line: str, address: str, told: Told
) -> None:
    calls = 0

    async def counted(call: ServerCall) -> None:
        nonlocal calls
        calls += 1
        await handler(call)

    async with listening(GrpcServer({LOCAL_WATCH: counted}), address):
        await watch_for_a_while(address)
    assert calls > 1
    assert told() == [line.format(address)]


async def test_a_watch_that_worked_is_told_to_have_ended(address: str, told: Told) -> None:
    async with listening(GrpcServer({LOCAL_WATCH: begin_and_forbid}), address):
        await watch_for_a_while(address, 0.1)
    assert told()[:2] == [
        f"connected to {address}",
        f"{address} ended the watch: PERMISSION_DENIED: not any more",
    ]


async def test_a_server_without_the_method(told: Told) -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        await watch_for_a_while(f"127.0.0.1:{port}")
    finally:
        await server.stop(0)
    (line,) = told()
    assert line.startswith(f"tcp://127.0.0.1:{port} refused the watch, will ask again: UNIMPLEMENTED: ")


async def test_each_way_to_fail_is_told_once_until_it_works(address: str, told: Told) -> None:
    watching = asyncio.create_task(watch_for_a_while(address, 30))
    async with asyncio.timeout(5):
        while len(told()) < 1:  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.01)
        async with listening(GrpcServer({LOCAL_WATCH: forbid}), address):
            while len(told()) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert [line.partition(address)[::2] for line in told()] == [
        ("cannot connect to ", ", will keep trying: No such file or directory"),
        ("", " refused the watch, will ask again: PERMISSION_DENIED: not you"),
    ]


async def greet_in_http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await reader.read()
    writer.close()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(4096)  # else the kernel resets the connection
    writer.close()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (greet_in_http1, "the peer does not speak HTTP/2 (PROTOCOL_ERROR)"),
        (hang_up, "connection closed by the peer; it may expect TLS"),
    ],
)
async def test_something_else_at_the_address_is_a_clear_sentence(
    script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], reason: str, told: Told
) -> None:
    server = await asyncio.start_server(script, "127.0.0.1", 0)
    at = "tcp://{}:{}".format(*server.sockets[0].getsockname())
    await watch_for_a_while(at, 0.3)
    server.close()
    assert told() == [f"cannot connect to {at}, will keep trying: {reason}"]
