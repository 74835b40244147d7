"""A watcher that takes no rounds costs a bounded time: what it holds is let go, and then it itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import grpc
import pytest

from kpng.server import ApiServer, watchers
from kpng.server.grpc import ServerCall
from kpng.server.steps import send_all
from kpng.store import Kind, Store
from kpng.testing import endpoint_info, key, service
from kpng.wire.ops import GLOBAL_WATCH, LOCAL_WATCH
from kpng.wire.proto import globalv1_pb2 as globalv1
from kpng.wire.proto import localv1_pb2 as localv1

WEB = key("demo/web")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "CHECK_SECONDS", 0.02)
    monkeypatch.setattr(watchers, "FORGET_SECONDS", 0.1)


@pytest.fixture
def store() -> Store:
    filled = Store()
    with filled.transaction() as staged:
        staged.replace(*Kind)
        staged.set_service(service("demo/web"))
    return filled


@pytest.fixture
async def server(store: Store) -> AsyncIterator[ApiServer]:
    running = ApiServer(store)
    yield running
    await running.close()


async def _call(server: ApiServer, method: str = LOCAL_WATCH) -> tuple[grpc.aio.Channel, object]:
    address = (await server.listen("tcp://127.0.0.1:0")).removeprefix("tcp://")
    channel = grpc.aio.insecure_channel(address)
    start = channel.stream_stream(
        method,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=localv1.OpItem.FromString,
    )
    return channel, start()


async def _round(call: object) -> list[str]:
    ops = []
    while not ops or ops[-1] != "Sync":
        op = await asyncio.wait_for(call.read(), 5)  # type: ignore[attr-defined]
        ops.append(op.WhichOneof("Op"))
    return ops


def _set(store: Store, number: int) -> None:
    with store.transaction() as staged:
        staged.set_source("web", WEB, [endpoint_info(f"10.1.0.{number}", pod_name=f"p{number}")])


async def test_its_snapshot_is_forgotten_and_it_is_told_everything_anew(server: ApiServer, store: Store) -> None:
    _set(store, 1)
    channel, call = await _call(server)
    await call.write(localv1.WatchReq(NodeName="n1"))  # type: ignore[attr-defined]
    assert (await _round(call))[0] == "Reset"
    _set(store, 2)
    await asyncio.sleep(0.3)
    (slow,) = server.local_sets._watchers
    assert slow._place.snapshot.revision == 0
    await call.write(localv1.WatchReq(NodeName="n1"))  # type: ignore[attr-defined]
    assert await _round(call) == ["Reset", "Set", "Set", "Set", "Sync"]
    await channel.close()


async def test_a_relay_is_told_everything_anew_too(server: ApiServer, store: Store) -> None:
    channel, call = await _call(server, GLOBAL_WATCH)
    await call.write(globalv1.GlobalWatchReq())  # type: ignore[attr-defined]
    assert await _round(call) == ["Reset", "Set", "Sync"]
    await asyncio.sleep(0.3)
    _set(store, 1)  # until now it was up to date, and held nothing
    async with asyncio.timeout(5):
        (slow,) = server.global_sets._watchers
        while not slow.is_new:  # type: ignore[attr-defined]  # noqa: ASYNC110 -- there is no event for it
            await asyncio.sleep(0.02)
    await call.write(globalv1.GlobalWatchReq())  # type: ignore[attr-defined]
    assert await _round(call) == ["Reset", "Set", "Set", "Set", "Sync"]
    await channel.close()


async def test_a_relay_that_takes_no_rounds_is_cut(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "CUT_SECONDS", 0.4)
    channel, call = await _call(server, GLOBAL_WATCH)
    await call.write(globalv1.GlobalWatchReq())  # type: ignore[attr-defined]
    await _round(call)
    assert await asyncio.wait_for(call.code(), 5) is grpc.StatusCode.ABORTED  # type: ignore[attr-defined]
    assert server.global_sets.watchers == 0
    await channel.close()


async def test_who_is_behind_but_up_to_date_is_left_alone(server: ApiServer, store: Store) -> None:
    """It has not asked for the next round yet; but there is none."""
    channel, call = await _call(server)
    await call.write(localv1.WatchReq(NodeName="n1"))  # type: ignore[attr-defined]
    await _round(call)
    await asyncio.sleep(0.3)
    _set(store, 2)
    await call.write(localv1.WatchReq(NodeName="n1"))  # type: ignore[attr-defined]
    assert await _round(call) == ["Set", "Set", "Sync"]  # of the service what is available, and the endpoint
    await channel.close()


@pytest.mark.parametrize("reading", [True, False])
async def test_later_it_is_cut(
    server: ApiServer, store: Store, monkeypatch: pytest.MonkeyPatch, reading: bool
) -> None:
    monkeypatch.setattr(watchers, "CUT_SECONDS", 0.4)
    for number in range(1, 200):
        with store.transaction() as staged:  # more than fits into the windows, if nobody reads
            fields = {f"k{n}": "x" * 1000 for n in range(10)}
            staged.set_service(service(f"demo/big-{number}", labels=fields))
    channel, call = await _call(server)
    await call.write(localv1.WatchReq(NodeName="n1"))  # type: ignore[attr-defined]
    if reading:
        await _round(call)
    code = await asyncio.wait_for(call.code(), 5) if reading else None  # type: ignore[attr-defined]
    if reading:
        assert code == grpc.StatusCode.ABORTED
    async with asyncio.timeout(5):
        while server.local_sets.watchers:  # noqa: ASYNC110 -- there is no event for it
            await asyncio.sleep(0.02)
    await channel.close()


async def test_a_slow_line_is_no_lack_of_interest(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as a part of the round is taken now and then, it may take its time altogether."""
    loop, verdicts = asyncio.get_running_loop(), []

    class SlowCall:
        async def send(self, part: list[bytes]) -> None:
            await asyncio.sleep(0.06)
            verdicts.append(patience.is_over(loop.time()))

    slow = cast(ServerCall, SlowCall())
    patience = watchers.Patience(slow)
    patience.begin()
    await send_all(slow, [bytes(300_000)] * 5, patience.begin)
    assert verdicts == [False] * 5
    await asyncio.sleep(0.15)
    assert patience.is_over(loop.time())
