"""Calls to the API server, and what becomes of them when the server is strange."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from kpng.lab.api import SERVICES, SLICES, Api
from kpng.lab.netns import Namespace
from kpng.lab.probes import Prober
from kpng.lab.processes import LabError

pytestmark = pytest.mark.netns


class Strange:
    """A server that answers with whatever it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.says = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        self.asked.append(head + await reader.readexactly(length))
        writer.write(self.says)
        await writer.drain()
        writer.close()


@pytest.fixture
async def strange(lab_name: str) -> AsyncIterator[tuple[Strange, Api]]:
    async with AsyncExitStack() as stack:
        namespace = stack.enter_context(Namespace(f"kpng-{lab_name}-api"))
        prober = Prober(namespace)
        stack.callback(prober.close)
        listener = prober.socket("127.0.0.1", 1)
        listener.bind(("127.0.0.1", 8080))
        server = Strange()
        await stack.enter_async_context(await asyncio.start_server(server.serve, sock=listener))
        yield server, Api(prober, "127.0.0.1", 8080)


def ok(body: object) -> bytes:
    return b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + json.dumps(body).encode()


async def test_what_is_sent_and_what_is_read(strange: tuple[Strange, Api]) -> None:
    server, api = strange
    server.says = ok({"kind": "Service"})
    assert await api.create(SERVICES, {"a": 1}) == {"kind": "Service"}
    assert await api.patch(SLICES, "x", {"b": 2}) == {"kind": "Service"}
    assert await api.delete(SLICES, "x") == {"kind": "Service"}
    created, patched, deleted = server.asked
    assert created.startswith(b"POST /api/v1/namespaces/default/services HTTP/1.0\r\n")
    assert created.endswith(b'\r\n\r\n{"a": 1}')
    assert b"Content-Type: application/json\r\n" in created
    assert patched.startswith(b"PATCH /apis/discovery.k8s.io/v1/namespaces/default/endpointslices/x HTTP/1.0\r\n")
    assert b"Content-Type: application/merge-patch+json\r\n" in patched
    assert deleted.startswith(b"DELETE ")
    assert b"Content-Length: 0\r\n" in deleted


@pytest.mark.parametrize(
    ("says", "shown"),
    [
        (b"HTTP/1.0 404 Not Found\r\n\r\n{}", "{}"),
        (b'HTTP/1.0 422 Unprocessable\r\n\r\n{"message": "no such port"}', "no such port"),
        (b"HTTP/1.0 500 Oh\r\n\r\n" + b"x" * 10_000, "x" * 300),
        (b"HTTP/1.0 500 Oh\r\n\r\n", "500 Oh"),
        (b"HTTP/1.0 200 OK\r\n\r\nnot json", "something else than JSON"),
        (b"", "refused GET"),
        (b"garbage", "garbage"),
        (b"\xff\xfe\x00", "refused GET"),
    ],
)
async def test_a_refusal_is_an_error_with_what_was_said(
    strange: tuple[Strange, Api], says: bytes, shown: str
) -> None:
    server, api = strange
    server.says = says
    with pytest.raises(LabError) as refused:
        await api.call("GET", SERVICES)
    assert shown in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("says", "ready"),
    [
        (ok({"items": [{}]}), True),
        (ok({"items": []}), False),
        (ok({}), False),
        (b"HTTP/1.0 503 Not yet\r\n\r\n", False),
        (b"", False),
    ],
)
async def test_ready_is_a_server_with_services(strange: tuple[Strange, Api], says: bytes, ready: bool) -> None:
    server, api = strange
    server.says = says
    assert await api.ready() is ready


async def test_a_server_that_is_not_there_is_not_ready(lab_name: str) -> None:
    with Namespace(f"kpng-{lab_name}-api") as namespace:
        prober = Prober(namespace)
        nobody = Api(prober, "127.0.0.1", 8080)
        assert await nobody.ready() is False
        with pytest.raises(LabError, match="did not answer GET"):
            await nobody.call("GET", SERVICES)
        prober.close()
