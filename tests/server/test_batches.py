"""The batched watch as grpcio sees it: the same rounds, resumable; and both ways tell the same at all times."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import msgspec
import pytest

from kpng.localize import localize
from kpng.model import Endpoint, EndpointInfo, EndpointPort, IPSet, Node, Service, ServiceKey
from kpng.server import ApiServer
from kpng.store import Kind, Store
from kpng.testing import endpoint_info, key, service
from kpng.wire.batch import ServiceDelta
from kpng.wire.endpoint import endpoint_from_wire
from kpng.wire.lenient import Faults
from kpng.wire.proto import localv1_pb2 as localv1
from kpng.wire.service import service_from_wire

PATIENCE = 10
WEB = key("demo/web")


@pytest.fixture
def store() -> Store:
    filled = Store()
    with filled.transaction() as staged:
        staged.replace(*Kind)
        staged.set_node(Node(name="n1", zone="za", addresses=IPSet(("192.0.2.1",))))
        staged.set_service(service("demo/web", "10.96.0.1"))
        staged.set_source("web-1", WEB, [pod(1, node="n1"), pod(2, node="n2")])
    return filled


@pytest.fixture
async def server(store: Store) -> AsyncIterator[ApiServer]:
    running = ApiServer(store)
    yield running
    await running.close()


def pod(number: int, **fields: Any) -> EndpointInfo:
    return endpoint_info(f"10.1.{number >> 8}.{number & 255}", pod_name=f"pod-{number}", **fields)


class Watch:
    """A client of either method, which knows only what it was told."""

    def __init__(self, channel: grpc.aio.Channel, *, batches: bool) -> None:
        method = "/localv1.Sets/WatchBatches" if batches else "/localv1.Sets/Watch"
        answer: Any = localv1.Batch if batches else localv1.OpItem
        start = channel.stream_stream(
            method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        self.call: Any = start()
        self._batches = batches
        self.services: dict[ServiceKey, Service] = {}
        self.endpoints: dict[ServiceKey, dict[str, Endpoint]] = {}
        self.node: localv1.Node | None = None
        self.position = localv1.Position()
        self.resets = 0
        self.told: list[ServiceDelta] = []
        """Of the last round."""

    async def round(self, node: str = "n1", position: localv1.Position | None = None) -> None:
        await self.ask(node, position)
        await self.rest()

    async def ask(self, node: str = "n1", position: localv1.Position | None = None) -> None:
        asked = localv1.BatchReq(NodeName=node, Position=position)
        await self.call.write(asked if self._batches else localv1.WatchReq(NodeName=node))

    async def rest(self) -> None:
        self.told = []
        complete = False
        while not complete:
            message = await asyncio.wait_for(self.call.read(), PATIENCE)
            assert message is not grpc.aio.EOF
            complete = self._take_batch(message) if self._batches else self._take_op(message)

    def _take_batch(self, batch: localv1.Batch) -> bool:
        if batch.Reset:
            self._forget()
        data = zlib.decompress(batch.Services) if batch.Compression == localv1.Zlib else batch.Services
        for delta in msgspec.msgpack.decode(data, type=list[ServiceDelta]) if data else ():
            self.told.append(delta)
            if delta.service:
                self.services[delta.key] = delta.service
            if delta.gone:
                del self.services[delta.key]
                self.endpoints.pop(delta.key, None)
            for name, endpoint in delta.endpoints.items():
                self._endpoint(delta.key, name, endpoint)
        if batch.HasField("Node"):
            self.node = batch.Node
        if batch.HasField("Sync"):
            self.position = batch.Sync
        return batch.HasField("Sync")

    def _take_op(self, op: localv1.OpItem) -> bool:
        kind = op.WhichOneof("Op")
        if kind == "Reset":
            self._forget()
        elif kind in ("Set", "Delete"):
            ref = op.Set.Ref if kind == "Set" else op.Delete
            self._apply(ref.Set, ref.Path, op.Set.Bytes if kind == "Set" else None)
        return kind == "Sync"

    def _apply(self, kind: int, path: str, value: bytes | None) -> None:
        namespace, _, rest = path.partition("/")
        name, _, endpoint = rest.partition("/")
        faults, owner = Faults(path), ServiceKey(namespace, name)
        if kind == localv1.NodesSet:
            self.node = localv1.Node.FromString(value or b"")
        elif kind == localv1.EndpointsSet:
            told = endpoint_from_wire(localv1.Endpoint.FromString(value), faults) if value is not None else None
            self._endpoint(owner, endpoint, told)
        elif value is None:
            del self.services[owner]
        else:
            made = service_from_wire(localv1.Service.FromString(value), faults)
            assert made is not None
            self.services[owner] = made
        assert not faults.problems

    def _endpoint(self, owner: ServiceKey, name: str, endpoint: Endpoint | None) -> None:
        known = self.endpoints.setdefault(owner, {})
        if endpoint is None:
            del known[name]
        else:
            known[name] = endpoint
        if not known:
            del self.endpoints[owner]

    def _forget(self) -> None:
        self.resets += 1
        self.services.clear()
        self.endpoints.clear()


@asynccontextmanager
async def watching(server: ApiServer, *, batches: bool = True, having: Watch | None = None) -> AsyncIterator[Watch]:
    address = (await server.listen("tcp://127.0.0.1:0")).removeprefix("tcp://")
    async with grpc.aio.insecure_channel(address) as channel:
        watch = Watch(channel, batches=batches)
        if having:
            watch.services, watch.endpoints = (
                dict(having.services),
                {k: dict(v) for k, v in having.endpoints.items()},
            )
        yield watch
        watch.call.cancel()


def set_web(store: Store, *pods: EndpointInfo) -> None:
    with store.transaction() as staged:
        staged.set_source("web-1", WEB, pods)


def truth(store: Store, node: str) -> tuple[dict[ServiceKey, Service], dict[ServiceKey, dict[str, Endpoint]]]:
    found = store.snapshot.nodes.get(node)
    answers = {
        of: localize(record, node, found.zone if found else "") for of, record in store.snapshot.services.items()
    }
    known = {of: answer for of, answer in answers.items() if answer}
    endpoints = {of: dict(answer.endpoints) for of, answer in known.items() if answer.endpoints}
    return {of: answer.service for of, answer in known.items()}, endpoints


# -- rounds ---------------------------------------------------------------------------------------------------


async def test_the_first_round_is_everything_and_the_next_what_changed(server: ApiServer, store: Store) -> None:
    async with watching(server) as watch:
        await watch.round()
        assert (watch.services, watch.endpoints) == truth(store, "n1")
        assert watch.endpoints[WEB]["pod-1"].local
        assert watch.node == localv1.Node(Name="n1", IPs=localv1.IPSet(V4=["192.0.2.1"]), Eligible=True)
        set_web(store, pod(1, node="n1"), pod(3, node="n3"))
        await watch.round()
        (delta,) = watch.told
        assert delta.service is None
        assert delta.endpoints == {"pod-2": None, "pod-3": watch.endpoints[WEB]["pod-3"]}
        with store.transaction() as staged:
            staged.delete_service(WEB)
        await watch.round()
        assert (watch.services, watch.endpoints, watch.resets) == ({}, {}, 1)


async def test_a_large_state_comes_compressed_in_few_messages(server: ApiServer, store: Store) -> None:
    with store.transaction() as staged:
        for number in range(2000):
            staged.set_service(service(f"demo/s{number}", f"10.97.{number >> 8}.{number & 255}"))
            staged.set_source(f"s{number}", key(f"demo/s{number}"), [pod(number), pod(number + 3000)])
    async with watching(server) as watch:
        await watch.round()
        assert (watch.services, watch.endpoints) == truth(store, "n1")
        assert len(watch.services) == 2001


async def test_a_service_with_very_many_endpoints_comes_in_parts(server: ApiServer, store: Store) -> None:
    set_web(store, *(pod(number) for number in range(1, 10_001)))
    async with watching(server) as watch:
        await watch.round()
        assert len(watch.endpoints[WEB]) == 10_000
        assert len(watch.told) == 3
        assert (watch.services, watch.endpoints) == truth(store, "n1")


async def test_who_asks_as_another_node_is_told_the_difference(server: ApiServer, store: Store) -> None:
    async with watching(server) as watch:
        await watch.round("n1")
        await watch.round("n2")
        assert (watch.services, watch.endpoints) == truth(store, "n2")
        assert (watch.resets, len(watch.told)) == (1, 1)


async def test_a_request_that_is_none_is_refused(server: ApiServer) -> None:
    address = (await server.listen("tcp://127.0.0.1:0")).removeprefix("tcp://")
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.stream_stream("/localv1.Sets/WatchBatches")()
        await call.write(b"\xff\xff")
        assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT


# -- resuming -------------------------------------------------------------------------------------------------


async def test_who_comes_back_is_told_only_what_has_changed(server: ApiServer, store: Store) -> None:
    async with watching(server) as watch:
        await watch.round()
        set_web(store, pod(2, node="n2"))
        async with watching(server, having=watch) as again:
            await again.round(position=watch.position)
            assert again.resets == 0
            assert [delta.endpoints for delta in again.told] == [{"pod-1": None}]
            assert again.node is None


async def test_who_comes_back_to_nothing_new_is_answered_at_once(server: ApiServer, store: Store) -> None:
    async with watching(server) as watch:
        await watch.round()
        async with watching(server, having=watch) as again:
            await again.round(position=watch.position)
            assert (again.resets, again.told, again.position) == (0, [], watch.position)
            set_web(store)
            await again.round()
            assert [delta.endpoints for delta in again.told] == [{"pod-1": None, "pod-2": None}]


async def test_what_a_node_knows_of_itself_is_resumed_too(server: ApiServer, store: Store) -> None:
    async with watching(server) as watch:
        await watch.round()
        with store.transaction() as staged:
            staged.set_node(Node(name="n1", zone="za", addresses=IPSet(("192.0.2.9",))))
        async with watching(server) as again:
            await again.round(position=watch.position)
            assert again.node is not None
            assert again.node.IPs.V4 == ["192.0.2.9"]


@pytest.mark.parametrize("strange", ["instance", "revision", "long ago"])
async def test_a_position_that_means_nothing_here_is_none(server: ApiServer, store: Store, strange: str) -> None:
    async with watching(server) as watch:
        await watch.round()
        position = localv1.Position()
        position.CopyFrom(watch.position)
        if strange == "instance":
            position.Instance = "another"
        elif strange == "revision":
            position.Revision += 7
        else:
            for number in range(1100):
                set_web(store, pod(number))
                await watch.round()
        async with watching(server) as again:
            await again.round(position=position)
            assert again.resets == 1
            assert (again.services, again.endpoints) == truth(store, "n1")


# -- always -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
async def test_both_ways_tell_the_truth_whatever_happens(server: ApiServer, store: Store, seed: int) -> None:
    chance = random.Random(seed)
    names = [f"n{number}" for number in range(1, 4)]
    async with (
        watching(server) as batches,
        watching(server, batches=False) as ops,
        watching(server) as slow,
    ):
        for watch in (batches, ops, slow):
            await watch.round()
        for number in range(60):
            _happen(store, chance, names)
            before = store.snapshot.revision
            with store.transaction() as staged:  # so that there is something to tell, whatever has happened
                staged.set_node(
                    Node(name="n1", zone=chance.choice(("za", "zb")), pod_cidrs=(f"10.{number}.0.0/16",))
                )
            assert store.snapshot.revision > before
            for watch in (batches, ops, *((slow,) if number % 10 == 9 else ())):
                await watch.round()
                assert (watch.services, watch.endpoints) == truth(store, "n1")
        assert (batches.resets, ops.resets, slow.resets) == (1, 1, 1)


def _happen(store: Store, chance: random.Random, names: list[str]) -> None:
    name = chance.choice(("web", "dns", "db"))
    owner = key(f"demo/{name}")
    with store.transaction() as staged:
        if chance.random() < 0.15:
            staged.delete_service(owner)
        elif chance.random() < 0.3:
            staged.set_service(service(str(owner), "10.96.0.7", external_traffic_local=chance.random() < 0.5))
        zones = chance.choice([(), ("za",), ("zb",)])
        pods = [
            pod(number, node=chance.choice(names), ready=chance.random() < 0.7, zone_hints=zones)
            for number in chance.sample(range(1, 9), chance.randrange(5))
        ]
        staged.set_source(f"{name}-1", owner, pods)


def test_a_delta_is_spelled_as_the_proto_says() -> None:
    """What the .proto says of the contents: the model's fields by their names, defaults left out."""
    endpoint = Endpoint(addresses=IPSet(("10.1.0.1",)), ports=(EndpointPort("http", 80),), local=True)
    encoded = msgspec.msgpack.encode(ServiceDelta("demo", "web", None, False, {"a": endpoint, "b": None}))
    assert msgspec.msgpack.decode(encoded) == {
        "namespace": "demo",
        "name": "web",
        "endpoints": {
            "a": {"addresses": {"v4": ["10.1.0.1"]}, "ports": [{"name": "http", "port": 80}], "local": True},
            "b": None,
        },
    }
