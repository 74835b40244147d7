"""Ports and requests on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import pytest


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


class Web:
    """Bare HTTP, so that tests see what is on the wire."""

    def free_port(self) -> int:
        """One that is free on 127.0.0.1, 127.0.0.2 and ::1."""
        while True:
            with socket.socket() as one, socket.socket() as two, socket.socket(socket.AF_INET6) as three:
                one.bind(("127.0.0.1", 0))
                port: int = one.getsockname()[1]
                with contextlib.suppress(OSError):
                    two.bind(("127.0.0.2", port))
                    three.bind(("::1", port))
                    return port

    @contextmanager
    def taken(self, host: str, port: int) -> Iterator[None]:
        with socket.socket() as holder:
            holder.bind((host, port))
            holder.listen()
            yield

    async def get(self, host: str, port: int, path: str = "/", method: str = "GET") -> Answer:
        """Raises OSError where nobody listens."""
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        text = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        head, _, body = text.partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        return Answer(int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body)

    async def is_open(self, host: str, port: int, saying: str = "") -> bool:
        """Whether somebody answers, and ``saying`` is in the answer. Who closes just now may cut us off."""
        try:
            return saying in (await self.get(host, port)).body
        except (ConnectionError, IndexError):
            return False

    async def until_open(self, host: str, port: int, *, is_open: bool = True, saying: str = "") -> None:
        async with asyncio.timeout(10):
            while await self.is_open(host, port, saying) is not is_open:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.005)

    @asynccontextmanager
    async def background(self, work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(work)
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def web() -> Web:
    return Web()
