"""Watching local state, over loopback, from our own server and from others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import pytest
from tests.client.brain import PATIENCE, a_store, listening, serving, told

from kpng.client import link, watch_local
from kpng.localize import LocalView
from kpng.model import (
    ChangeSet,
    Endpoint,
    EndpointInfo,
    EndpointPort,
    IPSet,
    LocalNode,
    PortMapping,
    ProblemLog,
    Protocol,
    Service,
    ServiceKey,
    UserError,
)
from kpng.server import ApiServer
from kpng.server.grpc import GrpcServer, ServerCall
from kpng.store import Store
from kpng.wire.grpc import GrpcError, GrpcStatus
from kpng.wire.ops import LOCAL_WATCH, RESET, SYNC, delete_op, set_op
from kpng.wire.proto import localv1_pb2 as localv1

pytestmark = pytest.mark.usefixtures("no_long_waits")

WEB = ServiceKey("demo", "web")
HTTP = (PortMapping(port=80, name="http", target_port=8080),)
QUIET = 0.15
State = dict[ServiceKey, tuple[Service, dict[str, Endpoint]]]


def pod(number: int, **changes: Any) -> EndpointInfo:
    ports = (EndpointPort("http", 8080),)
    return EndpointInfo(addresses=IPSet((f"10.1.0.{number}",)), ports=ports, pod_name=f"pod-{number}", **changes)


def put(store: Store, name: str, *pods: EndpointInfo, **changes: Any) -> None:
    with store.transaction() as transaction:
        transaction.set_service(Service(namespace="demo", name=name, ports=HTTP, **changes))
        transaction.set_source(f"{name}-abc", ServiceKey("demo", name), pods)


def remove(store: Store, name: str) -> None:
    with store.transaction() as transaction:
        transaction.delete_service(ServiceKey("demo", name))
        transaction.delete_source("demo", f"{name}-abc")


def after(state: State, changes: ChangeSet) -> State:
    """What the state becomes; checks that each change starts from what was there."""
    now = {} if changes.full else dict(state)
    for key, change in changes.changes.items():
        if not changes.full:
            old = change.old and (change.old.service, dict(change.old.endpoints))
            assert old == state.get(key)
        if change.new:
            now[key] = (change.new.service, dict(change.new.endpoints))
        else:
            del now[key]
    return now


def wanted(store: Store, node: str) -> State:
    changes = LocalView(store, node).advance(store.snapshot)
    assert changes is not None
    return after({}, changes)


async def is_silent(changes: AsyncGenerator[ChangeSet, None]) -> asyncio.Future[ChangeSet]:
    """Nothing comes for now; the result is what comes next."""
    coming: asyncio.Future[ChangeSet] = asyncio.ensure_future(anext(changes))  # type: ignore[arg-type]
    done, _ = await asyncio.wait({coming}, timeout=QUIET)
    assert not done
    return coming


async def test_the_first_change_set_is_the_whole_state(address: str) -> None:
    store = a_store()
    put(store, "web", pod(1, node="n1"), pod(2), external_traffic_local=True)
    put(store, "api")
    async with serving(store, address), aclosing(watch_local(address, "n1")) as changes:
        first = await told(changes)
        assert first.full
        assert after({}, first) == wanted(store, "n1")
        assert first.changes[WEB].new is not None
        assert first.changes[WEB].new.endpoints["pod-1"].local


async def test_an_empty_cluster_is_a_state_too(address: str) -> None:
    async with serving(a_store(), address), aclosing(watch_local(address, "n1")) as changes:
        assert await told(changes) == ChangeSet({}, full=True, node=LocalNode(name="n1"))


async def test_changes_follow(address: str) -> None:
    store = a_store()
    put(store, "web", pod(1))
    put(store, "api", pod(9))
    async with serving(store, address), aclosing(watch_local(address, "n1")) as changes:
        state = after({}, await told(changes))
        steps: list[Callable[[], None]] = [
            lambda: put(store, "web", pod(1), pod(2)),
            lambda: put(store, "web", pod(2), external_traffic_local=True),
            lambda: put(store, "new", pod(3)),
            lambda: remove(store, "web"),
        ]
        for step in steps:
            step()
            change = await told(changes)
            assert not change.full
            assert len(change.changes) == 1
            state = after(state, change)
            assert state == wanted(store, "n1")


async def test_changes_collapse_while_the_consumer_is_busy(address: str) -> None:
    store = a_store()
    async with serving(store, address), aclosing(watch_local(address, "n1")) as changes:
        await told(changes)
        for number in range(1, 6):
            put(store, "web", pod(number))
            await asyncio.sleep(0.01)
        change = await told(changes)
        assert list(change.changes[WEB].new.endpoints) == ["pod-5"]  # type: ignore[union-attr]


async def test_after_a_restart_only_what_differs_is_told(address: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kpng.client")
    store = a_store()
    put(store, "web", pod(1))
    put(store, "api", pod(9))
    async with aclosing(watch_local(address, "n1")) as changes:
        async with serving(store, address):
            state = after({}, await told(changes))
            coming = await is_silent(changes)
        async with serving(store, address) as server:
            await _connected(server)
            await asyncio.sleep(QUIET)
            assert not coming.done()
        remove(store, "api")
        put(store, "web", pod(2))
        async with serving(store, address):
            change = await asyncio.wait_for(coming, PATIENCE)
            assert not change.full
            assert set(change.changes) == {WEB, ServiceKey("demo", "api")}
            assert after(state, change) == wanted(store, "n1")
    ups_and_downs = [
        record.getMessage().partition(": ")[0] for record in caplog.records if record.name == link.__name__
    ]
    ended = f"{address} ended the watch"
    up = f"connected to {address}"
    assert ups_and_downs == [up, ended, up, ended, up]


async def _connected(server: ApiServer) -> None:
    async with asyncio.timeout(PATIENCE):
        while not server.local_sets.watchers:  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.01)


async def test_a_server_that_is_not_there_yet_is_waited_for(address: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kpng.client")
    async with aclosing(watch_local(address, "n1")) as changes:
        coming = await is_silent(changes)
        async with serving(a_store(), address):
            assert (await asyncio.wait_for(coming, PATIENCE)).full
    messages = [record.getMessage() for record in caplog.records if record.name == link.__name__]
    assert messages[0].startswith(f"cannot connect to {address}, will keep trying: ")
    assert messages[1:] == [f"connected to {address}"]


async def test_an_address_that_is_none_is_the_users_mistake() -> None:
    async with aclosing(watch_local("http://brain", "n1")) as changes:
        with pytest.raises(UserError, match="http://brain"):
            await told(changes)


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"\x00" * 100])
async def test_something_else_at_the_address_is_asked_again(address: str, greeting: bytes) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    stranger = await asyncio.start_unix_server(greet, address.removeprefix("unix://"))
    async with aclosing(watch_local(address, "n1")) as changes:
        coming = await is_silent(changes)
        stranger.close()
        await stranger.wait_closed()
        async with serving(a_store(), address):
            assert (await asyncio.wait_for(coming, PATIENCE)).full


async def test_a_consumer_that_stops_leaves_no_watcher(address: str) -> None:
    async with serving(a_store(), address) as server:
        async with aclosing(watch_local(address, "n1")) as changes:
            await told(changes)
            assert server.local_sets.watchers == 1
        async with asyncio.timeout(PATIENCE):
            while server.local_sets.watchers:  # noqa: ASYNC110 -- what is waited for has no event
                await asyncio.sleep(0.01)


# -- servers that are not ours: a script of rounds, each a list of framed ops ------------------------------

Script = Callable[[ServerCall], Coroutine[Any, Any, None]]


def scripted(address: str, *scripts: Script) -> AbstractAsyncContextManager[GrpcServer]:
    """A server that serves each call by the next script, and the last one from then on."""
    remaining = list(scripts)

    async def handler(call: ServerCall) -> None:
        await (remaining.pop(0) if len(remaining) > 1 else remaining[0])(call)

    return listening(GrpcServer({LOCAL_WATCH: handler}), address)


def telling(*rounds: list[bytes]) -> Script:
    """Answers each request with the next round; none left: stays silent."""

    async def script(call: ServerCall) -> None:
        for ops in rounds:
            assert await call.receive() is not None
            await call.send(ops)
        await call.receive()
        await asyncio.Event().wait()

    return script


def service_op(name: str = "web", **fields: Any) -> bytes:
    message = localv1.Service(Namespace="demo", Name=name, **fields)
    return set_op(localv1.ServicesSet, f"demo/{name}", message.SerializeToString())


def endpoint_op(key: str, address: str, service: str = "web", **fields: Any) -> bytes:
    message = localv1.Endpoint(IPs=localv1.IPSet(V4=[address]), **fields)
    return set_op(localv1.EndpointsSet, f"demo/{service}/{key}", message.SerializeToString())


async def test_half_a_round_is_never_applied(address: str) -> None:
    async def breaks_off(call: ServerCall) -> None:
        await call.receive()
        await call.send([RESET, service_op("half")])
        raise GrpcError(GrpcStatus.ABORTED, "the script wants it so")

    async def breaks_off_later(call: ServerCall) -> None:
        await call.receive()
        await call.send([RESET, service_op("web"), SYNC])
        await call.receive()
        await call.send([delete_op(localv1.ServicesSet, "demo/web"), service_op("half")])
        raise GrpcError(GrpcStatus.ABORTED, "the script wants it so")

    whole = telling([RESET, service_op("web"), service_op("api"), SYNC])
    async with (
        scripted(address, breaks_off, breaks_off_later, whole),
        aclosing(watch_local(address, "n1")) as changes,
    ):
        assert set((await told(changes)).changes) == {WEB}
        second = await told(changes)
        assert not second.full
        assert set(second.changes) == {ServiceKey("demo", "api")}


async def test_a_round_in_pieces_is_one(address: str) -> None:
    async def dribbles(call: ServerCall) -> None:
        await call.receive()
        data = b"".join([RESET, service_op(), endpoint_op("pod-1", "10.1.0.1"), SYNC])
        for index in range(len(data)):
            await call.send([data[index : index + 1]])
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    async with scripted(address, dribbles), aclosing(watch_local(address, "n1")) as changes:
        assert list((await told(changes)).changes[WEB].new.endpoints) == ["pod-1"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "ops",
    [
        pytest.param([RESET, SYNC, service_op()], id="more than was asked for"),
        pytest.param([RESET, b"\x00\x00\x00\x00\x02\xff\xff", SYNC], id="no OpItem"),
    ],
)
async def test_a_server_that_talks_nonsense_is_left_and_asked_again(address: str, ops: list[bytes]) -> None:
    good = telling([RESET, service_op("good"), SYNC])
    async with scripted(address, telling(ops), good), aclosing(watch_local(address, "n1")) as changes:
        assert set((await told(changes)).changes) == {ServiceKey("demo", "good")}


async def test_ops_and_sets_yet_to_be_invented_are_passed_over(address: str) -> None:
    unknown_op = b"\x00\x00\x00\x00\x02\x7a\x00"
    unknown_set = set_op(99, "what/ever", b"?")  # type: ignore[arg-type]
    script = telling([RESET, unknown_op, unknown_set, service_op(), SYNC])
    async with scripted(address, script), aclosing(watch_local(address, "n1")) as changes:
        assert set((await told(changes)).changes) == {WEB}


async def test_a_go_brain_is_understood(address: str) -> None:
    """It knows no protocol of an endpoint's port, no availability, and no Sync without an op."""
    ports = [
        localv1.PortMapping(Name="dns", Protocol=localv1.UDP, Port=53),
        localv1.PortMapping(Name="dns-tcp", Protocol=localv1.TCP, Port=53),
    ]
    overrides = [localv1.PortName(Name="dns", Port=5353), localv1.PortName(Name="dns-tcp", Port=5354)]
    script = telling(
        [RESET, service_op(Ports=ports), endpoint_op("93c4cb21257f17bf", "10.1.0.1", PortOverrides=overrides), SYNC]
    )
    async with scripted(address, script), aclosing(watch_local(address, "n1")) as changes:
        new = (await told(changes)).changes[WEB].new
        assert new is not None
        (endpoint,) = new.endpoints.values()
        assert [(port.protocol, endpoint.port_for(port)) for port in new.service.ports] == [
            (Protocol.UDP, 5353),
            (Protocol.TCP, 5354),
        ]


async def test_bad_objects_are_named_and_left_out_and_forgotten_when_mended(address: str) -> None:
    problems = ProblemLog()
    bad_value = set_op(localv1.ServicesSet, "demo/broken", b"\xff")
    liar = set_op(
        localv1.ServicesSet, "demo/liar", localv1.Service(Namespace="demo", Name="web").SerializeToString()
    )
    script = telling(
        [
            RESET,
            service_op(Ports=[localv1.PortMapping(Port=70000, Protocol=localv1.TCP)]),
            bad_value,
            liar,
            set_op(localv1.ServicesSet, "nonsense", b""),
            set_op(localv1.EndpointsSet, "demo/web", b""),
            endpoint_op("evil", "127.0.0.1"),
            endpoint_op("good", "10.1.0.1"),
            SYNC,
        ],
        [
            service_op(Ports=[localv1.PortMapping(Port=80, Protocol=localv1.TCP)]),
            endpoint_op("evil", "10.1.0.2"),
            delete_op(localv1.ServicesSet, "demo/broken"),
            SYNC,
        ],
    )
    async with scripted(address, script), aclosing(watch_local(address, "n1", problems=problems)) as changes:
        first = await told(changes)
        assert set(first.changes) == {WEB}
        assert list(first.changes[WEB].new.endpoints) == ["good"]  # type: ignore[union-attr]
        assert [(problem.subject, problem.field) for problem in problems.current] == [
            ("Endpoint demo/web", ""),
            ("Endpoint demo/web/evil", "addresses"),
            ("Endpoint demo/web/evil", "addresses"),
            ("Service demo/broken", ""),
            ("Service demo/liar", "metadata.name"),
            ("Service demo/web", "spec.ports[0].port"),
            ("Service nonsense", ""),
        ]
        assert all(problem.origin == address for problem in problems.current)
        second = await told(changes)
        assert list(second.changes[WEB].new.endpoints) == ["good", "evil"]  # type: ignore[union-attr]
        assert {problem.subject for problem in problems.current} == {
            "Endpoint demo/web",
            "Service demo/liar",
            "Service nonsense",
        }


async def test_problems_of_a_server_end_with_its_next_whole_state(address: str) -> None:
    problems = ProblemLog()

    async def bad_then_gone(call: ServerCall) -> None:
        await call.receive()
        await call.send([RESET, service_op(), endpoint_op("evil", "127.0.0.1"), SYNC])
        await call.receive()

    good = telling([RESET, service_op(), service_op("new"), SYNC])
    async with (
        scripted(address, bad_then_gone, good),
        aclosing(watch_local(address, "n1", problems=problems)) as changes,
    ):
        await told(changes)
        assert len(problems) == 2
        await told(changes)
        assert len(problems) == 0


async def test_endpoints_of_a_bad_service_are_there_when_it_is_mended(address: str) -> None:
    broken = set_op(localv1.ServicesSet, "demo/web", b"\xff")
    script = telling([RESET, broken, endpoint_op("pod-1", "10.1.0.1"), SYNC], [service_op(), SYNC])
    async with scripted(address, script), aclosing(watch_local(address, "n1")) as changes:
        assert await told(changes) == ChangeSet({}, full=True)
        change = (await told(changes)).changes[WEB]
        assert change.old is None
        assert list(change.new.endpoints) == ["pod-1"]  # type: ignore[union-attr]
