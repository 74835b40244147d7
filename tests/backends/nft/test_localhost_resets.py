"""Connections through the listener at loopback that end badly: both sides learn of it, and no task dies of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from kpng.backends.nft.localhost import LocalhostNodePorts
from kpng.model import LocalService
from kpng.testing import local_service, service

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read(1))
    with contextlib.suppress(OSError):
        await reader.read()
    writer.close()


async def sends_without_end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while not writer.is_closing():
            writer.write(bytes(1 << 16))
            await writer.drain()
    writer.close()


async def waits(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        await reader.read()


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.close()


async def through_the_listener(serve: Handler, ask: Handler) -> None:
    """A connection from ``ask`` to ``serve``, of which the listener keeps nothing in the end."""
    ended = asyncio.Event()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer)
        ended.set()

    server, port, listener = await listening(served)
    running = asyncio.create_task(listener.run())
    try:
        async with asyncio.timeout(5):
            reader, writer = await connected(port)
            writer.write(b"?")
            await ask(reader, writer)
            await ended.wait()
            while listener._connections:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.005)
    finally:
        writer.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.close()


async def listening(serve: Handler) -> tuple[asyncio.Server, int, LocalhostNodePorts]:
    """A server, and a listener that passes on to it."""
    server = await asyncio.start_server(serve, "127.0.0.2", 0)
    port = server.sockets[0].getsockname()[1]
    listener = LocalhostNodePorts(lambda _: "127.0.0.2")
    listener.apply({(local := at(port)).service.key: local}, full=True)
    return server, port, listener


def at(port: int) -> LocalService:
    return local_service(service("demo/web", "10.96.0.1", ports=f"80:8080/TCP@{port}"))


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize(
    ("serve", "ask"),
    [
        (resets, waits),
        (answers, resets),
        (answers, closes),
        (sends_without_end, resets),
        (sends_without_end, closes),
    ],
)
def test_whoever_ends_it(run: Callable[..., None], serve: Handler, ask: Handler) -> None:
    told: list[object] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        await through_the_listener(serve, ask)
        gc.collect()  # a task whose exception nobody has asked for tells it at its end

    run(watched())
    assert told == []


async def test_whoever_connects_leaves_descriptors_to_the_rest_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Any user of the node can connect; the watch of the API server needs descriptors too."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (12, 12))
    held: set[asyncio.StreamWriter] = set()

    async def holds(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.add(writer)
        await waits(reader, writer)
        writer.close()
        await writer.wait_closed()
        held.remove(writer)

    server, port, listener = await listening(holds)
    running = asyncio.create_task(listener.run())
    clients = [await connected(port) for _ in range(5)]
    try:
        async with asyncio.timeout(5):
            for reader, _ in clients[3:]:
                with pytest.raises(ConnectionResetError):
                    await reader.read(1)
        assert len(listener._connections) == 3
        assert not any(reader.at_eof() for reader, _ in clients[:3])
    finally:
        async with asyncio.timeout(5):
            for _, writer in clients:
                writer.close()
            while held or listener._connections:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.close()
