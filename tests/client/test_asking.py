"""Asking once: the same answers as a watch begins with, and no second try."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from kpng.client import ask_global, ask_local, watch_global, watch_local
from kpng.model import Node, ProblemLog
from kpng.server import ApiServer
from kpng.server.grpc import GrpcServer, ServerCall
from kpng.store import Kind, Store
from kpng.testing import endpoint_info, key, service
from kpng.wire.grpc import GrpcError, GrpcStatus
from kpng.wire.ops import LOCAL_WATCH, RESET, SYNC, set_op
from kpng.wire.proto import localv1_pb2 as localv1

PATIENCE = 5
WEB = key("demo/web")


@pytest.fixture
def store() -> Store:
    filled = Store()
    with filled.transaction() as transaction:
        transaction.mark_synced(*Kind)
        transaction.set_service(service("demo/web", "10.96.0.1"))
        transaction.set_source("web-1", WEB, [endpoint_info("10.1.0.1", node="node-a", pod_name="web-1")])
        transaction.set_node(Node(name="node-a", zone="zone-a", pod_cidrs=("10.1.0.0/24",)))
    return filled


@pytest.fixture
async def address(store: Store) -> AsyncIterator[str]:
    server = ApiServer(store)
    yield await server.listen("tcp://127.0.0.1:0")
    await server.close()


async def test_local_state_is_what_a_watch_begins_with(address: str) -> None:
    asked = await ask_local(address, "node-a")
    async with asyncio.timeout(PATIENCE), aclosing(watch_local(address, "node-a")) as watch:
        told = await anext(watch)
    assert (asked.full, asked.node) == (True, told.node)
    one, other = asked.changes[WEB].new, told.changes[WEB].new
    assert one is not None
    assert other is not None
    assert (one.service, one.endpoints) == (other.service, other.endpoints)


async def test_global_state_is_what_a_watch_begins_with(address: str) -> None:
    asked = await ask_global(address)
    async with asyncio.timeout(PATIENCE), aclosing(watch_global(address)) as watch:
        told = await anext(watch)
    assert asked.whole
    assert asked.services == told.services
    assert asked.endpoints == told.endpoints
    assert asked.nodes == told.nodes
    assert asked.endpoints


async def test_an_empty_cluster_is_an_answer(address: str, store: Store) -> None:
    with store.transaction() as transaction:
        transaction.delete_service(WEB)
        transaction.delete_source("demo", "web-1")
        transaction.delete_node("node-a")
    asked = await ask_local(address, "node-a")
    assert asked.full
    assert not asked.changes
    assert (await ask_global(address)).nodes == {}


async def test_a_connection_is_refused_at_once(address: str, caplog: pytest.LogCaptureFixture) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    gone = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()
    with caplog.at_level(logging.INFO), pytest.raises(ConnectionError, match="Connection refused"):
        await ask_local(gone, "node-a")
    assert not caplog.records, "telling is the caller's"


async def test_a_service_that_is_not_offered(store: Store) -> None:
    server = ApiServer(store, global_api=False)
    address = await server.listen("tcp://127.0.0.1:0")
    try:
        with pytest.raises(GrpcError) as raised:
            await ask_global(address)
    finally:
        await server.close()
    assert raised.value.status is GrpcStatus.UNIMPLEMENTED


async def answering(*messages: bytes) -> GrpcServer:
    """A server that answers whoever asks for local state so, and ends the call."""

    async def handler(call: ServerCall) -> None:
        await call.receive()
        await call.send(messages)

    return GrpcServer({LOCAL_WATCH: handler})


async def test_an_answer_that_breaks_off_is_none() -> None:
    server = await answering(RESET)
    address = await server.listen("tcp://127.0.0.1:0")
    try:
        with pytest.raises(EOFError):
            await ask_local(address, "node-a")
    finally:
        await server.close()


async def test_bad_objects_are_named_and_skipped() -> None:
    problems = ProblemLog()
    server = await answering(RESET, set_op(localv1.ServicesSet, "demo/web", b"\xff\xff"), SYNC)
    address = await server.listen("tcp://127.0.0.1:0")
    try:
        asked = await ask_local(address, "node-a", problems=problems)
    finally:
        await server.close()
    assert not asked.changes
    assert [problem.subject for problem in problems.current] == ["Service demo/web"]
