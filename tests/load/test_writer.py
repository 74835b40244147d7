"""Writes to an API server, also to one that is not well."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from kpng.kube.access import Access, AccessOptions
from kpng.lab.apiserver import ApiServer
from kpng.load import Churn, Object, Shape, Write, endpoint_slices, objects
from kpng.load.writer import ApiWriter, NoAnswerError, WriteError, connect
from kpng.model import UserError

SHAPE = Shape(services=2, endpoints=2, nodes=2)


@pytest.fixture
async def writer(server: ApiServer) -> AsyncIterator[ApiWriter]:
    async with await connect(AccessOptions(server=server.url)) as made:
        yield made


@asynccontextmanager
async def answering(*answers: tuple[int, dict[str, str]]) -> AsyncIterator[tuple[ApiWriter, list[float]]]:
    """A server that gives these answers, one after the other and then 200, and when it was asked."""
    asked: list[float] = []

    async def answer(_: web.Request) -> web.Response:
        asked.append(time.monotonic())
        status, headers = answers[len(asked) - 1] if len(asked) <= len(answers) else (200, {})
        return web.json_response({"message": f"answer {len(asked)}"}, status=status, headers=headers)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with ApiWriter(Access(f"http://127.0.0.1:{runner.addresses[0][1]}"), patience=5.0) as made:
            yield made, asked
    finally:
        await runner.cleanup()


async def fill(writer: ApiWriter) -> None:
    for thing in objects(SHAPE):
        await writer.write(Write("create", thing))


def one_slice(name: str = "a") -> Object:
    thing = next(endpoint_slices(SHAPE))
    return thing | {"metadata": thing["metadata"] | {"name": name, "namespace": "default"}}


async def test_creates_what_a_shape_has(server: ApiServer, writer: ApiWriter) -> None:
    await fill(writer)
    assert [len(server.objects(kind)) for kind in ("Service", "EndpointSlice", "Node")] == [2, 2, 2]
    assert any(found["metadata"]["name"] == "kpng-load" for found in server.objects("Namespace"))


async def test_carries_out_changes(server: ApiServer, writer: ApiWriter) -> None:
    await fill(writer)
    churn = Churn(SHAPE)
    for _ in range(60):
        for write in churn.next().writes:
            await writer.write(write)
    kept = {thing["metadata"]["name"]: thing["endpoints"] for thing in server.objects("EndpointSlice")}
    assert kept == {thing["metadata"]["name"]: thing["endpoints"] for thing in churn.endpoint_slices()}


async def test_takes_things_as_they_are(server: ApiServer, writer: ApiWriter) -> None:
    """A run before us may have made them, and another one may have deleted them."""
    await fill(writer)
    await fill(writer)
    thing = one_slice()
    await writer.write(Write("update", thing))
    await writer.write(Write("create", thing | {"endpoints": []}))
    await writer.write(Write("delete", thing))
    await writer.write(Write("delete", thing))
    assert len(server.objects("EndpointSlice")) == 2


async def test_an_existing_slice_is_brought_up_to_date(server: ApiServer, writer: ApiWriter) -> None:
    await writer.write(Write("create", one_slice()))
    await writer.write(Write("create", one_slice() | {"endpoints": []}))
    assert [thing["endpoints"] for thing in server.objects("EndpointSlice")] == [[]]


@pytest.mark.parametrize("labelled", [True, False])
async def test_lists_page_by_page(
    server: ApiServer, writer: ApiWriter, labelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kpng.load.writer._PAGE", 3)
    server.load(endpoint_slices(Shape(services=10)))
    server.load([one_slice()])
    selector = "kubernetes.io/service-name=kpng-load-00003" if labelled else ""
    found = [thing async for thing in writer.list("EndpointSlice", selector)]
    assert len(found) == (1 if labelled else 11)
    assert {thing["kind"] for thing in found} == {"EndpointSlice"}


async def test_what_is_wrong_is_said(writer: ApiWriter) -> None:
    with pytest.raises(WriteError, match=r"HTTP 422: .*addressType") as caught:
        await writer.write(Write("create", one_slice() | {"addressType": "IPv5"}))
    assert caught.value.status == 422


async def test_an_overloaded_server_is_given_the_time_it_asks_for() -> None:
    async with answering((429, {"Retry-After": "1"})) as (writer, asked):
        await writer.write(Write("create", one_slice()))
    assert len(asked) == 2
    assert asked[1] - asked[0] >= 1.0


@pytest.mark.parametrize("status", [500, 503, 504, 429])
async def test_trouble_of_the_server_is_waited_out(status: int, caplog: pytest.LogCaptureFixture) -> None:
    async with answering((status, {}), (status, {})) as (writer, asked):
        await writer.write(Write("update", one_slice()))
    assert len(asked) == 3
    assert [record.getMessage() for record in caplog.records if "kpng.load" in record.name] == [
        f"{writer.server}: HTTP {status}: answer 1; trying again"
    ]


@pytest.mark.parametrize("status", [401, 403])
async def test_without_permission_there_is_no_point_in_trying_again(status: int) -> None:
    async with answering((status, {})) as (writer, asked):
        with pytest.raises(
            UserError, match=r"refuses POST /apis/discovery.k8s.io/v1/namespaces/default/endpointsl"
        ):
            await writer.write(Write("create", one_slice()))
    assert len(asked) == 1


async def test_patience_ends(unused: Callable[[], int]) -> None:
    async with ApiWriter(Access(f"http://127.0.0.1:{unused()}"), patience=0.3) as writer:
        with pytest.raises(NoAnswerError, match=r"^http://127.0.0.1:\d+ does not answer: .*Connect call failed"):
            await writer.write(Write("create", one_slice()))


async def test_a_server_that_comes_later_gets_its_writes(unused: Callable[[], int]) -> None:
    port = unused()
    async with ApiWriter(Access(f"http://127.0.0.1:{port}")) as writer:
        writing = asyncio.create_task(writer.write(Write("create", one_slice())))
        await asyncio.sleep(0.15)
        server = ApiServer()
        await server.start(port=port)
        try:
            async with asyncio.timeout(10):
                await writing
            assert len(server.objects("EndpointSlice")) == 1
        finally:
            await server.stop()


@pytest.fixture
def unused() -> Callable[[], int]:
    def port() -> int:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            number: int = bound.getsockname()[1]
            return number

    return port


async def test_bodies_that_are_no_status_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="<html>no</html>", status=418)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner: Any = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with ApiWriter(Access(f"http://127.0.0.1:{runner.addresses[0][1]}")) as writer:
            with pytest.raises(WriteError, match="HTTP 418: <html>no</html>"):
                await writer.request("GET", "/")
    finally:
        await runner.cleanup()
