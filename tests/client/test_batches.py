"""Watching by batches: positions, cut streams, servers that cannot, servers that talk nonsense."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from tests.client.brain import a_store, listening, serving, told

from kpng.client import ask_local, session, watch_local
from kpng.client.session import Methods
from kpng.model import LocalService, Node, ProblemLog, ServiceChange
from kpng.server.grpc import GrpcServer, ServerCall
from kpng.store import Store
from kpng.testing import endpoint, endpoint_info, key, local_service, service
from kpng.wire.batch import (
    LOCAL_WATCH_BATCHES,
    RESET_BATCH,
    encode_deltas,
    services_batches,
    sync_batch,
)
from kpng.wire.grpc import GrpcError, GrpcStatus, frame
from kpng.wire.ops import LOCAL_WATCH, RESET, SYNC, set_op
from kpng.wire.proto import localv1_pb2 as localv1

pytestmark = pytest.mark.usefixtures("no_long_waits")

WEB, API = key("demo/web"), key("demo/api")


# -- scripted servers: each call is served by the next script, and the last one from then on ----------------

Script = Callable[[ServerCall], Coroutine[Any, Any, None]]


class Scripted:
    """What was asked for, in each call."""

    def __init__(self, scripts: Callable[[Scripted], tuple[list[Script] | None, list[Script]]]) -> None:
        self.calls: list[str] = []
        self.positions: list[tuple[str, int] | None] = []
        batches, ops = scripts(self)
        self._scripts = {LOCAL_WATCH_BATCHES: batches or [], LOCAL_WATCH: ops}
        self.server = GrpcServer({path: self._serve for path, each in self._scripts.items() if each})

    async def _serve(self, call: ServerCall) -> None:
        self.calls.append(call.path.rpartition("/")[2])
        scripts = self._scripts[call.path]
        await (scripts.pop(0) if len(scripts) > 1 else scripts[0])(call)

    def telling(self, *rounds: list[bytes]) -> Script:
        """Answers each request with the next round; none left: stays silent."""

        async def script(call: ServerCall) -> None:
            for buffers in rounds:
                await self.request(call)
                await call.send(buffers)
            await self.request(call)
            await asyncio.Event().wait()

        return script

    def cutting(self, *rounds: list[bytes]) -> Script:
        """Tells the same, and ends the call."""

        async def script(call: ServerCall) -> None:
            for buffers in rounds:
                await self.request(call)
                await call.send(buffers)
            raise GrpcError(GrpcStatus.UNAVAILABLE, "cut by the script")

        return script

    async def request(self, call: ServerCall) -> None:
        data = await call.receive()
        assert data is not None
        if call.path == LOCAL_WATCH_BATCHES:
            asked = localv1.BatchReq.FromString(data)
            assert asked.NodeName == "n1"
            there = (asked.Position.Instance, asked.Position.Revision)
            self.positions.append(there if asked.HasField("Position") else None)


@asynccontextmanager
async def scripted(
    address: str, scripts: Callable[[Scripted], tuple[list[Script] | None, list[Script]]]
) -> AsyncIterator[Scripted]:
    server = Scripted(scripts)
    async with listening(server.server, address):
        yield server


def state(name: str, *pods: int, **others: str) -> LocalService:
    addresses = {f"pod-{n}": f"10.1.0.{n}" for n in pods} | others
    return local_service(service(f"demo/{name}"), **{pod: endpoint(each) for pod, each in addresses.items()})


def batch(name: str, old: LocalService | None, new: LocalService | None) -> bytes:
    return services_batches(encode_deltas(key(f"demo/{name}"), ServiceChange(old, new)))


def whole(*parts: bytes, revision: int = 1, instance: str = "brain-a") -> list[bytes]:
    return [RESET_BATCH, *parts, sync_batch(instance, revision)]


def op(name: str) -> bytes:
    message = localv1.Service(Namespace="demo", Name=name)
    return set_op(localv1.ServicesSet, f"demo/{name}", message.SerializeToString())


NEW_API = batch("api", None, state("api"))
NEW_WEB = batch("web", None, state("web", 1))
MORE = batch("web", state("web", 1), state("web", 1, 2))


async def test_a_lost_connection_goes_on_where_it_was(address: str) -> None:
    def scripts(server: Scripted) -> Any:
        return [
            server.cutting(whole(NEW_WEB, revision=7)),
            server.telling(
                [MORE, sync_batch("brain-a", 9)], [batch("api", None, state("api")), sync_batch("b", 10)]
            ),
        ], []

    async with scripted(address, scripts) as server, aclosing(watch_local(address, "n1")) as changes:
        assert (await told(changes)).full
        second = await told(changes)
        assert not second.full
        assert list(second.changes[WEB].new.endpoints) == ["pod-1", "pod-2"]  # type: ignore[union-attr]
        assert set((await told(changes)).changes) == {API}
    assert server.positions[:3] == [None, ("brain-a", 7), None], "a position is told once in a call"


CUTS = {
    "in mid-batch": NEW_WEB[: len(NEW_WEB) // 2],
    "between batches": NEW_WEB,
    "right after the reset": b"",
}


@pytest.mark.parametrize("cut", CUTS)
async def test_cut_in_the_first_round_nothing_of_it_counts(address: str, cut: str) -> None:
    def scripts(server: Scripted) -> Any:
        full = server.telling(whole(batch("api", None, state("api")), revision=3))
        return [server.cutting([RESET_BATCH, CUTS[cut]]), full], []

    async with scripted(address, scripts) as server, aclosing(watch_local(address, "n1")) as changes:
        assert set((await told(changes)).changes) == {API}
    assert server.positions == [None, None]


LATER_CUTS = {"in mid-batch": MORE[:10], "in mid-round": MORE, "in mid-reset": RESET_BATCH + MORE}


@pytest.mark.parametrize("cut", LATER_CUTS)
async def test_cut_in_a_later_round_the_one_before_counts(address: str, cut: str) -> None:
    """What had come of the round is dropped; the difference is asked for from the last complete one."""

    def scripts(server: Scripted) -> Any:
        again = server.telling([MORE, sync_batch("brain-a", 8)])
        return [server.cutting(whole(NEW_WEB, revision=7), [LATER_CUTS[cut]]), again], []

    async with scripted(address, scripts) as server, aclosing(watch_local(address, "n1")) as changes:
        await told(changes)
        second = await told(changes)
        assert list(second.changes[WEB].old.endpoints) == ["pod-1"]  # type: ignore[union-attr]
        assert list(second.changes[WEB].new.endpoints) == ["pod-1", "pod-2"]  # type: ignore[union-attr]
    assert [position for position in server.positions if position] == [("brain-a", 7)]


async def test_another_instance_tells_all_and_nothing_is_handed_on(address: str) -> None:
    def scripts(server: Scripted) -> Any:
        elsewhere = whole(NEW_WEB, revision=2, instance="brain-b")
        return [
            server.cutting(whole(NEW_WEB, revision=700)),
            server.cutting(elsewhere),
            server.telling([MORE, sync_batch("brain-b", 3)]),
        ], []

    async with scripted(address, scripts) as server, aclosing(watch_local(address, "n1")) as changes:
        await told(changes)
        second = await told(changes)
        assert list(second.changes[WEB].new.endpoints) == ["pod-1", "pod-2"]  # type: ignore[union-attr]
    assert [position for position in server.positions if position] == [("brain-a", 700), ("brain-b", 2)]


async def test_nothing_new_is_told_of_to_nobody(address: str) -> None:
    """Who resumes is answered at once, though there may be nothing to tell."""

    def scripts(server: Scripted) -> Any:
        return [
            server.cutting(whole(NEW_WEB)),
            server.telling([sync_batch("brain-a", 1)], [MORE, sync_batch("brain-a", 2)]),
        ], []

    async with scripted(address, scripts), aclosing(watch_local(address, "n1")) as changes:
        await told(changes)
        assert set((await told(changes)).changes) == {WEB}


async def test_the_node_comes_along(address: str) -> None:
    store = a_store()
    with store.transaction() as transaction:
        transaction.set_node(Node(name="n1", pod_cidrs=("10.1.0.0/24",)))
    async with serving(store, address), aclosing(watch_local(address, "n1")) as changes:
        first = await told(changes)
        assert first.node is not None
        assert first.node.pod_cidrs == ("10.1.0.0/24",)
        with store.transaction() as transaction:
            transaction.set_node(Node(name="n1", pod_cidrs=("10.2.0.0/24",)))
        second = await told(changes)
    assert second.node is not None
    assert (dict(second.changes), second.node.pod_cidrs) == ({}, ("10.2.0.0/24",))


async def test_a_bad_node_is_named(address: str) -> None:
    message = localv1.Node(Name="n1", PodCIDRs=["nonsense"])
    node = frame(localv1.Batch(Node=message).SerializeToString())
    problems = ProblemLog()
    async with scripted(address, lambda server: ([server.telling(whole(node))], [])):
        asked = await ask_local(address, "n1", problems=problems)
    assert asked.node is not None
    assert [str(each) for each in problems.current] == [
        f"{address}: Node n1: spec.podCIDRs: 'nonsense' is not a CIDR"
    ]


async def test_problems_are_taken_back_after_a_state_that_was_cut(address: str) -> None:
    """As of another brain that began to tell everything, while the one before was gone."""
    bad = batch("web", None, state("web", evil="127.0.0.1"))
    worse = batch("api", None, state("api", evil="127.0.0.1"))
    problems = ProblemLog()

    def scripts(server: Scripted) -> Any:
        mended = batch("web", None, state("web", evil="10.1.0.9"))
        return [
            server.cutting(whole(bad, revision=7), [RESET_BATCH, worse]),
            server.telling([mended, sync_batch("brain-a", 8)]),
        ], []

    async with scripted(address, scripts), aclosing(watch_local(address, "n1", problems=problems)) as changes:
        await told(changes)
        assert {problem.subject for problem in problems.current} == {"Endpoint demo/web/evil"}
        await told(changes)
    assert problems.current == []


# -- servers without batches ---------------------------------------------------------------------------------


async def test_an_older_server_is_asked_for_single_ops_on_the_same_connection(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kpng.client")
    ops = [[RESET, op("web"), SYNC], [op("api"), SYNC]]
    async with (
        scripted(address, lambda server: (None, [server.telling(*ops)])) as server,
        aclosing(watch_local(address, "n1")) as changes,
    ):
        assert set((await told(changes)).changes) == {WEB}
        assert set((await told(changes)).changes) == {API}
        assert server.server.connection_count == 1
    assert server.calls == ["Watch"]
    assert [record.getMessage() for record in caplog.records] == [f"connected to {address}"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time by which servers are remembered."""
    now = [1000.0]
    monkeypatch.setattr(session, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


async def test_that_it_has_none_is_remembered_for_a_while(address: str, clock: list[float]) -> None:
    """Not one call in vain for each connection, and not for ever: the server may be replaced by a newer one."""

    async def none(call: ServerCall) -> None:
        raise GrpcError(GrpcStatus.UNIMPLEMENTED, "unknown method")

    def scripts(server: Scripted) -> Any:
        rounds = [[RESET, op(f"web-{number}"), SYNC] for number in range(4)]
        return [none], [server.cutting(each) for each in rounds]

    async with scripted(address, scripts) as server, aclosing(watch_local(address, "n1")) as changes:
        for _ in range(3):
            await told(changes)
        assert server.calls == ["WatchBatches", "Watch", "Watch", "Watch"]
        clock[0] += session.REMEMBER_SECONDS
        await told(changes)
        assert server.calls[4:] == ["WatchBatches", "Watch"]


def test_methods_are_given_up_by_server(clock: list[float]) -> None:
    best: Any = SimpleNamespace(path="/best")
    last: Any = SimpleNamespace(path="/last")
    one: Any = SimpleNamespace(name="one")
    other: Any = SimpleNamespace(name="other")
    methods: Methods[Any] = Methods([best, last])
    assert methods.give_up(one, best)
    assert (methods.best(one), methods.best(other)) == (last, best)
    assert not methods.give_up(one, last), "there is no other"
    assert methods.best(one) is last
    clock[0] += session.REMEMBER_SECONDS
    assert methods.best(one) is best


def unreadable(data: bytes, compression: int = 0) -> bytes:
    message = localv1.Batch(Services=data, Compression=localv1.Compression.ValueType(compression))
    return frame(message.SerializeToString())


UNREADABLE = {
    "no batch": frame(b"\xff\xff"),
    "no MessagePack": unreadable(b"\xc1"),
    "another shape": unreadable(b"\x91\x01"),
    "cut off": unreadable(zlib.compress(bytes(1000))[:-3], 1),
    "a bomb": unreadable(zlib.compress(bytes(1 << 25)), 1),
    "a compression to come": unreadable(b"", 0) + unreadable(b"?", 5),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_batches_that_cannot_be_read_are_one_warning_and_single_ops(
    address: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kpng.client")

    def scripts(server: Scripted) -> Any:
        bad = server.telling([RESET_BATCH, UNREADABLE[name]])
        ops = [server.cutting([RESET, op("web"), SYNC]), server.telling([RESET, op("web"), op("api"), SYNC])]
        return [bad], ops

    async with scripted(address, scripts) as server, aclosing(watch_local(address, "n1")) as changes:
        assert set((await told(changes)).changes) == {WEB}
        assert set((await told(changes)).changes) == {API}
    assert server.calls == ["WatchBatches", "Watch", "Watch"]
    warnings = [record.getMessage() for record in caplog.records if record.name == session.__name__]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{address} sent ")
    assert warnings[0].endswith("; asking it for single ops instead")


async def test_a_position_is_worth_nothing_after_single_ops(address: str, clock: list[float]) -> None:
    """What differs since a position would be put upon a newer state: endpoints that came and went in between would
    never go."""

    async def for_a_while(call: ServerCall) -> None:
        await call.receive()
        await call.send([RESET, op("web"), SYNC])
        clock[0] += session.REMEMBER_SECONDS
        raise GrpcError(GrpcStatus.UNAVAILABLE, "cut by the script")

    def scripts(server: Scripted) -> Any:
        bad_later = server.telling(whole(NEW_WEB, revision=7), [UNREADABLE["no batch"]])
        last = server.telling(whole(batch("api", None, state("api")), revision=9))
        return [bad_later, last], [for_a_while]

    async with scripted(address, scripts) as server, aclosing(watch_local(address, "n1")) as changes:
        for _ in range(3):
            last = await told(changes)
        assert last.changes[WEB].new is None
    assert server.calls[:3] == ["WatchBatches", "Watch", "WatchBatches"]
    assert server.positions == [None, None, None]


async def test_more_than_was_asked_for_is_nonsense_in_batches_too(address: str) -> None:
    def scripts(server: Scripted) -> Any:
        return [server.telling([*whole(NEW_WEB), MORE]), server.telling(whole(NEW_WEB))], []

    async with scripted(address, scripts) as server, aclosing(watch_local(address, "n1")) as changes:
        assert (await told(changes)).full
    assert server.positions == [None, None]


# -- our own server ------------------------------------------------------------------------------------------


def put(store: Store, name: str, *pods: int) -> None:
    with store.transaction() as transaction:
        transaction.set_service(service(f"demo/{name}"))
        infos = [endpoint_info(f"10.1.{n // 250}.{n % 250 + 1}", pod_name=f"pod-{n}") for n in pods]
        transaction.set_source(f"{name}-abc", key(f"demo/{name}"), infos)


class Pipe:
    """Between client and server: counts what comes, and can be cut."""

    def __init__(self, target: str) -> None:
        self.received = 0
        self._target = target
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_unix_connection(self._target.removeprefix("unix://"))
        self._writers += [writer, out]
        await asyncio.gather(self._copy(reader, out, False), self._copy(there, writer, True))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: bool) -> None:
        try:
            while data := await reader.read(1 << 16):
                self.received += len(data) * count
                writer.write(data)
        except ConnectionError:
            pass
        writer.close()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


async def test_a_reconnect_costs_the_difference_and_not_the_state(address: str) -> None:
    store = a_store()
    for number in range(40):
        put(store, f"svc-{number}", *range(100))
    pipe = Pipe(address)
    between = await asyncio.start_unix_server(pipe.connect, f"{address.removeprefix('unix://')}.pipe")
    async with serving(store, address), aclosing(watch_local(f"{address}.pipe", "n1")) as changes:
        assert len((await told(changes)).changes) == 40
        first = pipe.received
        for step in range(3):
            pipe.received = 0
            pipe.cut()
            put(store, "svc-7", *range(step, 100))
            put(store, f"new-{step}", 1)
            change = await told(changes)
            expected = {key(f"demo/new-{step}")} | ({key("demo/svc-7")} if step else set())
            assert set(change.changes) == expected
            assert pipe.received < first / 10
    between.close()
    await between.wait_closed()


async def test_a_server_started_again_is_another_one(address: str) -> None:
    """The same numbers of revisions mean something else there."""
    store, other = a_store(), a_store()
    put(store, "web", 1)
    put(other, "web", 1)
    async with aclosing(watch_local(address, "n1")) as changes:
        async with serving(store, address):
            await told(changes)
            coming = asyncio.ensure_future(told(changes))
            await asyncio.sleep(0.05)
        async with serving(other, address):
            await asyncio.sleep(0.1)
            assert not coming.done(), "nothing differs"
            put(other, "web", 1, 2)
            change = await coming
    assert sorted(change.changes[WEB].old.endpoints) == ["pod-1"]  # type: ignore[union-attr]
    assert sorted(change.changes[WEB].new.endpoints) == ["pod-1", "pod-2"]  # type: ignore[union-attr]


async def test_the_loop_is_not_held_up_while_a_large_state_comes(address: str) -> None:
    store = a_store()
    for number in range(300):
        put(store, f"svc-{number}", *range(100))
    async with serving(store, address):
        await ask_local(address, "n1")  # so that the server, in the same loop, has everything made
        loop, longest = asyncio.get_running_loop(), [0.0]

        async def watch() -> None:
            while True:
                then = loop.time()
                await asyncio.sleep(0)
                longest[0] = max(longest[0], loop.time() - then)

        watching = asyncio.create_task(watch())
        changes = await ask_local(address, "n1")
        watching.cancel()
    assert len(changes.changes) == 300
    assert longest[0] < 0.15
