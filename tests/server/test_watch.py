"""The two watch services as any gRPC client sees them: grpcio and the generated messages, nothing of our client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from kpng.model import EndpointInfo, EndpointPort, IPSet, Node, PortMapping, Service, ServiceKey
from kpng.server import ApiServer
from kpng.store import Kind, Store
from kpng.wire.proto import globalv1_pb2 as globalv1
from kpng.wire.proto import localv1_pb2 as localv1

WEB = ServiceKey("demo", "web")
HTTP = (PortMapping(port=80, name="http", target_port=8080),)
PATIENCE = 5
QUIET = 0.1
"""How long nothing must come where nothing may."""


def pod(number: int, **changes: Any) -> EndpointInfo:
    ports = (EndpointPort("http", 8080),)
    return EndpointInfo(addresses=IPSet((f"10.1.0.{number}",)), ports=ports, pod_name=f"pod-{number}", **changes)


def set_web(store: Store, *pods: EndpointInfo, **changes: Any) -> None:
    with store.transaction() as transaction:
        transaction.set_service(Service(namespace="demo", name="web", ports=HTTP, **changes))
        transaction.set_source("web-abc", WEB, pods)


def delete_web(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.delete_service(WEB)
        transaction.delete_source("demo", "web-abc")


@pytest.fixture
def store() -> Store:
    empty = Store()
    with empty.transaction() as transaction:
        transaction.mark_synced(*Kind)
    return empty


@pytest.fixture
async def server(store: Store) -> AsyncIterator[ApiServer]:
    running = ApiServer(store)
    yield running
    await running.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.01)


class Stream:
    """One Watch call. An op is spelled ``+path``, ``-path``, ``reset`` or ``sync``; what the node is told of itself
    is put aside in ``nodes``."""

    def __init__(self, channel: grpc.aio.Channel, method: str) -> None:
        start = channel.stream_stream(
            method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=localv1.OpItem.FromString,
        )
        self.call: Any = start()
        self.values: dict[str, bytes] = {}
        self.nodes: list[localv1.Node] = []

    async def ask(self, node: str = "n1") -> None:
        await self.call.write(localv1.WatchReq(NodeName=node))

    async def op(self) -> str:
        item = await asyncio.wait_for(self.call.read(), PATIENCE)
        assert item is not grpc.aio.EOF
        kind = item.WhichOneof("Op")
        if kind == "Set" and item.Set.Ref.Set == localv1.NodesSet:
            self.nodes.append(localv1.Node.FromString(item.Set.Bytes))
            return await self.op()
        if kind == "Set":
            self.values[item.Set.Ref.Path] = item.Set.Bytes
            return f"+{item.Set.Ref.Path}"
        return f"-{item.Delete.Path}" if kind == "Delete" else kind.lower()

    async def round(self, node: str = "n1") -> list[str]:
        await self.ask(node)
        return await self.rest()

    async def rest(self) -> list[str]:
        ops = [await self.op()]
        while ops[-1] != "sync":
            ops.append(await self.op())
        return ops

    async def silent(self) -> asyncio.Future[list[str]]:
        """Nothing comes for now; the result is the rest of the round, whenever it comes."""
        rest = asyncio.ensure_future(self.rest())
        done, _ = await asyncio.wait({rest}, timeout=QUIET)
        assert not done
        return rest

    def endpoint(self, path: str) -> localv1.Endpoint:
        return localv1.Endpoint.FromString(self.values[path])


@asynccontextmanager
async def watching(server: ApiServer, method: str = "/localv1.Sets/Watch") -> AsyncIterator[Stream]:
    address = (await server.listen("tcp://127.0.0.1:0")).removeprefix("tcp://")
    async with grpc.aio.insecure_channel(address) as channel:
        stream = Stream(channel, method)
        yield stream
        stream.call.cancel()


async def test_three_rounds(server: ApiServer, store: Store) -> None:
    set_web(store, pod(1), pod(2))
    async with watching(server) as stream:
        full = ["reset", "+demo/web", "+demo/web/pod-1", "+demo/web/pod-2", "sync"]
        assert await stream.round() == full
        set_web(store, pod(2), pod(3))
        assert await stream.round() == ["+demo/web/pod-3", "-demo/web/pod-1", "sync"]
        delete_web(store)
        assert await stream.round() == ["-demo/web/pod-3", "-demo/web/pod-2", "-demo/web", "sync"]


async def test_an_empty_cluster_is_synced(server: ApiServer) -> None:
    """The Go kpng says nothing after the reset, and its clients wait for ever."""
    async with watching(server) as stream:
        assert await stream.round() == ["reset", "sync"]


async def test_nothing_is_said_before_everything_has_been_seen() -> None:
    store = Store()
    server = ApiServer(store)
    set_web(store, pod(1))
    async with watching(server) as stream:
        await stream.ask()
        assert await stream.op() == "reset"
        rest = await stream.silent()
        with store.transaction() as transaction:
            transaction.mark_synced(*Kind)
        assert await rest == ["+demo/web", "+demo/web/pod-1", "sync"]
    await server.close()


async def test_without_a_request_nothing_is_sent_and_changes_collapse(server: ApiServer, store: Store) -> None:
    async with watching(server) as stream:
        await stream.round()
        for number in range(1, 6):
            set_web(store, pod(number))
            await asyncio.sleep(0)
        assert await stream.round() == ["+demo/web", "+demo/web/pod-5", "sync"]


async def test_a_round_waits_for_a_change_that_concerns_the_node(server: ApiServer, store: Store) -> None:
    set_web(store, pod(1, node="n1"))
    async with watching(server) as stream:
        await stream.round()
        await stream.ask()
        set_web(store, pod(1, node="n1"))
        with store.transaction() as transaction:
            transaction.set_node(Node(name="n7"))
        rest = await stream.silent()
        set_web(store, pod(1, node="n1"), external_traffic_local=True)
        assert await rest == ["+demo/web", "sync"]


async def test_another_name_in_a_request_is_honoured_at_once(server: ApiServer, store: Store) -> None:
    """The Go kpng waits for the next change of the store."""
    set_web(store, pod(1, node="n1"), pod(2, node="n2"))
    async with watching(server) as stream:
        await stream.round("n1")
        assert stream.endpoint("demo/web/pod-1").Local
        assert not stream.endpoint("demo/web/pod-2").Local
        assert await stream.round("n2") == ["+demo/web/pod-1", "+demo/web/pod-2", "sync"]
        assert not stream.endpoint("demo/web/pod-1").Local
        assert stream.endpoint("demo/web/pod-2").Local


async def test_another_name_that_changes_no_service(server: ApiServer, store: Store) -> None:
    """It learns at once what it is now, and then waits."""
    set_web(store, pod(1, node="n1"))
    async with watching(server) as stream:
        await stream.round("n2")
        assert await stream.round("n3") == ["sync"]
        assert [node.Name for node in stream.nodes] == ["n2", "n3"]
        await stream.ask("n3")
        rest = await stream.silent()
        set_web(store, pod(1, node="n3"))
        assert await rest == ["+demo/web/pod-1", "sync"]


async def test_hints_alone_reach_the_node(server: ApiServer, store: Store) -> None:
    with store.transaction() as transaction:
        transaction.set_node(Node(name="n1", zone="za"))
    set_web(store, pod(1, zone_hints=("za",)), pod(2, zone_hints=("zb",)))
    async with watching(server) as stream:
        assert await stream.round() == ["reset", "+demo/web", "+demo/web/pod-1", "sync"]
        set_web(store, pod(1, zone_hints=("zb",)), pod(2, zone_hints=("za",)))
        assert await stream.round() == ["+demo/web/pod-2", "-demo/web/pod-1", "sync"]


async def test_a_node_that_moves_to_another_zone_is_told(server: ApiServer, store: Store) -> None:
    set_web(store, pod(1, zone_hints=("za",)), pod(2, zone_hints=("zb",)))
    async with watching(server) as stream:
        assert (await stream.round())[2:-1] == ["+demo/web/pod-1", "+demo/web/pod-2"]
        with store.transaction() as transaction:
            transaction.set_node(Node(name="n1", zone="zb"))
        assert await stream.round() == ["-demo/web/pod-1", "sync"]


async def test_many_ops_arrive_whole(server: ApiServer, store: Store) -> None:
    with store.transaction() as transaction:
        for number in range(3000):
            transaction.set_service(Service(namespace="demo", name=f"s{number:04}", ports=HTTP))
            transaction.set_source(f"s{number}", ServiceKey("demo", f"s{number:04}"), [pod(number % 250)])
    async with watching(server) as stream:
        ops = await stream.round()
        assert len(ops) == 2 + 2 * 3000
        services = [op for op in ops if op.count("/") == 1]
        assert sorted(services) == [f"+demo/s{number:04}" for number in range(3000)]
        assert all(ops.index(op) < ops.index(f"{op}/pod-{int(op[-4:]) % 250}") for op in services[::50])


@pytest.mark.parametrize("while_waiting", [False, True])
async def test_a_watcher_that_goes_away_is_freed(server: ApiServer, while_waiting: bool) -> None:
    """The Go kpng keeps its goroutine until the store changes."""
    async with watching(server) as stream:
        await stream.round()
        if while_waiting:
            await stream.ask()
            await asyncio.sleep(QUIET)
        assert server.local_sets.watchers == 1
    await until(lambda: server.local_sets.watchers == 0)


async def test_a_client_that_asks_once_and_closes_its_side_gets_its_round(server: ApiServer, store: Store) -> None:
    set_web(store, pod(1))
    async with watching(server) as stream:
        await stream.ask()
        await stream.call.done_writing()
        assert (await stream.rest())[0] == "reset"
        assert await stream.call.code() == grpc.StatusCode.OK


async def test_a_request_that_is_none_ends_the_call_with_a_reason(server: ApiServer) -> None:
    async with watching(server) as stream:
        raw = type("Raw", (), {"SerializeToString": lambda _: b"\xff\xff"})()
        await stream.call.write(raw)
        assert await stream.call.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert await stream.call.details() == "not a localv1.WatchReq"


@pytest.mark.parametrize(
    ("apis", "method"),
    [({"local_api": False}, "/localv1.Sets/Watch"), ({"global_api": False}, "/globalv1.Sets/Watch")],
)
async def test_an_api_that_is_off_is_not_there(store: Store, apis: dict[str, bool], method: str) -> None:
    server = ApiServer(store, **apis)
    async with watching(server, method) as stream:
        assert await stream.call.code() == grpc.StatusCode.UNIMPLEMENTED
    await server.close()


# -- the global service ----------------------------------------------------------------------------------


async def test_three_rounds_of_the_global_state(server: ApiServer, store: Store) -> None:
    with store.transaction() as transaction:
        transaction.set_node(Node(name="n1", zone="za"))
    set_web(store, pod(1))
    async with watching(server, "/globalv1.Sets/Watch") as stream:
        reset, node, service, endpoint, by_source, sync = await stream.round()
        assert (reset, node, service, sync) == ("reset", "+|n1||", "+demo|web||", "sync")
        assert endpoint.startswith("+demo|web|web-abc|")
        assert by_source == endpoint.replace("|web|", "||", 1)
        info = globalv1.EndpointInfo.FromString(stream.values[endpoint[1:]])
        assert (info.PodName, info.Endpoint.IPs.V4) == ("pod-1", ["10.1.0.1"])

        set_web(store, pod(1, zone_hints=("za",)))
        came, _, _, went, sync = await stream.round()
        assert came.startswith("+demo|web|web-abc|")
        assert (went, sync) == (f"-{endpoint[1:]}", "sync")

        delete_web(store)
        assert (await stream.round())[-2:] == ["-demo|web||", "sync"]


async def test_an_empty_global_state_is_synced(server: ApiServer) -> None:
    async with watching(server, "/globalv1.Sets/Watch") as stream:
        assert await stream.round() == ["reset", "sync"]


async def test_a_global_watcher_that_goes_away_is_freed(server: ApiServer) -> None:
    async with watching(server, "/globalv1.Sets/Watch") as stream:
        await stream.round()
        await stream.ask()
        await asyncio.sleep(QUIET)
        assert server.global_sets.watchers == 1
    await until(lambda: server.global_sets.watchers == 0)
