"""Another kpng as the source; relays, and many watchers of one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kpng.client import link, watch_local
from kpng.localize import LocalView
from kpng.model import (
    ChangeSet,
    Endpoint,
    EndpointInfo,
    EndpointPort,
    IPSet,
    Node,
    PortMapping,
    ProblemLog,
    Protocol,
    Service,
    ServiceKey,
)
from kpng.server import ApiServer
from kpng.server.grpc import GrpcServer, ServerCall
from kpng.sources.api import ApiSource
from kpng.store import EMPTY, Kind, Snapshot, Store
from kpng.wire.ops import GLOBAL_WATCH, RESET, SYNC, delete_op, set_op
from kpng.wire.proto import globalv1_pb2 as globalv1
from kpng.wire.proto import localv1_pb2 as localv1

PORTS = (
    PortMapping(port=80, name="http", target_port=8080),
    PortMapping(port=53, name="dns", protocol=Protocol.UDP, target_port=5353),
)
ENDPOINT_PORTS = (EndpointPort("http", 8080), EndpointPort("dns", 5353, Protocol.UDP))
WEB = ServiceKey("demo", "web")
PATIENCE = 20
State = dict[ServiceKey, tuple[Service, dict[str, Endpoint]]]


@pytest.fixture
def addresses(tmp_path: Path) -> list[str]:
    return [f"unix://{tmp_path}/{number}.sock" for number in range(3)]


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(link, "LAST_RETRY_SECONDS", 0.05)


def pod(number: int, **changes: Any) -> EndpointInfo:
    fields: dict[str, Any] = {"ports": ENDPOINT_PORTS, "pod_name": f"pod-{number}"} | changes
    return EndpointInfo(addresses=IPSet((f"10.1.{number // 250}.{number % 250 + 1}",)), **fields)


def a_service(name: str, **changes: Any) -> Service:
    return Service(namespace="demo", name=name, ports=PORTS, **changes)


def a_store() -> Store:
    store = Store()
    with store.transaction() as transaction:
        transaction.mark_synced(*Kind)
    return store


def put(store: Store, name: str, *pods: EndpointInfo) -> None:
    with store.transaction() as transaction:
        transaction.set_service(a_service(name))
        transaction.set_source(f"{name}-abc", ServiceKey("demo", name), pods)


def contents(snapshot: Snapshot) -> tuple[object, ...]:
    """All there is, in values that compare."""
    services = {key: (record.service, _sources(record.sources)) for key, record in snapshot.services.items()}
    return services, dict(snapshot.nodes), snapshot.complete


def _sources(sources: Any) -> dict[str, frozenset[EndpointInfo]]:
    return {name: frozenset(endpoints) for name, endpoints in sources.items() if endpoints}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(store: Store, address: str) -> AsyncIterator[ApiServer]:
    server = ApiServer(store)
    await server.listen(address)
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def closing_later(server: GrpcServer) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await server.close()


@asynccontextmanager
async def following(address: str, store: Store, problems: ProblemLog | None = None) -> AsyncIterator[None]:
    task = asyncio.create_task(ApiSource(address, problems=problems).run(store))
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_first_round_is_one_transaction(addresses: list[str]) -> None:
    origin, copy = a_store(), Store()
    put(origin, "web", pod(1, node="n1", zone="za", zone_hints=("za",)), pod(2, ready=False, terminating=True))
    put(origin, "api")
    with origin.transaction() as transaction:
        transaction.set_node(Node(name="n1", zone="za", labels={"a": "b"}))
    async with serving(origin, addresses[0]), following(addresses[0], copy):
        snapshot = await asyncio.wait_for(copy.newer(EMPTY), PATIENCE)
    assert snapshot.revision == 1
    assert contents(snapshot) == contents(origin.snapshot)


async def test_an_empty_cluster_is_complete(addresses: list[str]) -> None:
    copy = Store()
    async with serving(a_store(), addresses[0]), following(addresses[0], copy):
        assert (await asyncio.wait_for(copy.newer(EMPTY), PATIENCE)).complete


STEPS: list[tuple[str, Callable[[Store], None]]] = [
    ("an endpoint comes", lambda store: put(store, "web", pod(1), pod(2))),
    ("an endpoint goes", lambda store: put(store, "web", pod(2))),
    ("readiness", lambda store: put(store, "web", pod(2, ready=False))),
    ("hints", lambda store: put(store, "web", pod(2, zone_hints=("za",)))),
    ("no endpoints", lambda store: put(store, "web")),
    ("another service", lambda store: put(store, "api", pod(3))),
]


async def test_changes_follow(addresses: list[str]) -> None:
    origin, copy = a_store(), Store()
    put(origin, "web", pod(1))
    async with serving(origin, addresses[0]), following(addresses[0], copy):
        await until(lambda: contents(copy.snapshot) == contents(origin.snapshot))
        for _name, step in STEPS:
            step(origin)
            await until(lambda: contents(copy.snapshot) == contents(origin.snapshot))


async def test_a_source_that_moves_to_another_service_is_moved(addresses: list[str]) -> None:
    origin, copy = a_store(), Store()
    put(origin, "web", pod(1))
    put(origin, "api")
    async with serving(origin, addresses[0]), following(addresses[0], copy):
        await until(lambda: contents(copy.snapshot) == contents(origin.snapshot))
        with origin.transaction() as transaction:
            transaction.set_source("web-abc", ServiceKey("demo", "api"), [pod(1)])
        await until(lambda: contents(copy.snapshot) == contents(origin.snapshot))
        assert "web-abc" in copy.snapshot.services[ServiceKey("demo", "api")].sources
        with origin.transaction() as transaction:
            transaction.delete_source("demo", "web-abc")
        await until(lambda: contents(copy.snapshot) == contents(origin.snapshot))


async def test_while_the_other_is_away_the_old_state_stays(addresses: list[str]) -> None:
    origin, copy = a_store(), Store()
    put(origin, "web", pod(1))
    put(origin, "same", pod(9))
    async with following(addresses[0], copy):
        async with serving(origin, addresses[0]):
            before = await asyncio.wait_for(copy.newer(EMPTY), PATIENCE)
        await asyncio.sleep(0.1)
        assert copy.snapshot is before
        async with serving(origin, addresses[0]) as server:
            await until(lambda: server.global_sets.watchers == 1)
            await asyncio.sleep(0.1)
            assert copy.snapshot is before, "a reconnect that brings nothing new is no revision"
        put(origin, "web", pod(2))
        async with serving(origin, addresses[0]):
            after = await asyncio.wait_for(copy.newer(before), PATIENCE)
            assert after.changed_services(before) == [WEB]
            assert contents(after) == contents(origin.snapshot)


async def test_a_relay_of_a_relay_tells_nodes_what_the_origin_would(addresses: list[str]) -> None:
    origin, copy, copy_of_copy = a_store(), Store(), Store()
    put(origin, "web", pod(1, node="n1"), pod(2, node="n2", pod_name=""))
    async with (
        serving(origin, addresses[0]),
        following(addresses[0], copy),
        serving(copy, addresses[1]),
        following(addresses[1], copy_of_copy),
        serving(copy_of_copy, addresses[2]),
        aclosing(watch_local(addresses[2], "n1")) as changes,
    ):
        state: State = {}
        for _name, step in [("first", lambda _: None), *STEPS]:
            step(origin)
            wanted = local_state(origin, "n1")
            async with asyncio.timeout(PATIENCE):
                while state != wanted:
                    fold(state, await anext(changes))


async def test_bad_objects_are_named_and_left_out(addresses: list[str]) -> None:
    def endpoint(key: str, address: str) -> bytes:
        message = globalv1.EndpointInfo(Endpoint=localv1.Endpoint(IPs=localv1.IPSet(V4=[address])))
        return set_op(localv1.GlobalEndpointInfos, f"demo|web|s|{key}", message.SerializeToString())

    def service(path: str, name: str) -> bytes:
        message = globalv1.ServiceInfo(Service=localv1.Service(Namespace="demo", Name=name))
        return set_op(localv1.GlobalServiceInfos, path, message.SerializeToString())

    first = [
        RESET,
        set_op(localv1.GlobalNodeInfos, "|n1||", b"\xff"),
        set_op(localv1.GlobalNodeInfos, "nonsense", b""),
        service("demo|web||", "web"),
        service("demo|liar||", "web"),
        endpoint("01", "10.1.0.1"),
        endpoint("02", "169.254.169.254"),
        SYNC,
    ]
    second = [delete_op(localv1.GlobalNodeInfos, "|n1||"), endpoint("02", "10.1.0.2"), SYNC]

    async def script(call: ServerCall) -> None:
        for ops in (first, second):
            await call.receive()
            await call.send(ops)
        await asyncio.Event().wait()

    server = GrpcServer({GLOBAL_WATCH: script})
    await server.listen(addresses[0])
    store, problems = Store(), ProblemLog()
    async with closing_later(server), following(addresses[0], store, problems):
        await until(lambda: store.snapshot.revision == 2)
        assert problems.total == 5
        assert {problem.subject for problem in problems.current} == {"Object nonsense", "Service demo/liar"}
        assert list(store.snapshot.services) == [WEB]
        endpoints = [info.addresses.v4[0] for _, info in store.snapshot.services[WEB].endpoints()]
        assert endpoints == ["10.1.0.1", "10.1.0.2"]


# -- many watchers of one store, all at their own pace ---------------------------------------------------------


def local_state(store: Store, node: str) -> State:
    state: State = {}
    changes = LocalView(store, node).advance(store.snapshot)
    assert changes is not None
    fold(state, changes)
    return state


def fold(state: State, changes: ChangeSet) -> None:
    for key, change in changes.changes.items():
        if change.new:
            state[key] = (change.new.service, dict(change.new.endpoints))
        else:
            del state[key]


LAST = ServiceKey("demo", "zz-last")


async def watch_to_the_last(address: str, node: str, pause: float) -> State:
    """A node's state once the last change has come; dawdles after each change set."""
    state: State = {}
    async with aclosing(watch_local(address, node)) as changes:
        while LAST not in state:
            fold(state, await anext(changes))
            await asyncio.sleep(pause)
    return state


def random_endpoints(chance: random.Random, names: Iterable[str]) -> list[EndpointInfo]:
    def hints(values: list[str]) -> tuple[str, ...]:
        return (chance.choice(values),) if chance.random() < 0.6 else ()

    nodes = list(names)
    return [
        pod(
            number,
            pod_name=chance.choice([f"pod-{number}", ""]),
            node=chance.choice(nodes),
            ready=chance.random() < 0.7,
            terminating=chance.random() < 0.3,
            zone_hints=hints(["za", "zb"]),
            node_hints=hints(nodes) if chance.random() < 0.2 else (),
        )
        for number in chance.sample(range(40), chance.randrange(6))
    ]


def random_change(chance: random.Random, store: Store, nodes: list[str]) -> None:
    name = f"s{chance.randrange(20)}"
    key = ServiceKey("demo", name)
    with store.transaction() as transaction:
        if chance.random() < 0.1:
            transaction.set_node(Node(name=chance.choice(nodes), zone=chance.choice(["", "za", "zb"])))
        if chance.random() < 0.2:
            transaction.delete_service(key)
        else:
            local = {f"{kind}_traffic_local": chance.random() < 0.3 for kind in ("internal", "external")}
            transaction.set_service(a_service(name, **local))
        transaction.set_source(f"{name}-{chance.randrange(2)}", key, random_endpoints(chance, nodes))


@pytest.mark.parametrize("seed", [1, 2])
async def test_200_watchers_end_with_what_localize_says(addresses: list[str], seed: int) -> None:
    chance = random.Random(seed)
    store, nodes = a_store(), [f"n{number}" for number in range(25)]
    for _ in range(40):
        random_change(chance, store, nodes)
    async with serving(store, addresses[0]) as server:
        watched = [chance.choice(nodes) for _ in range(200)]
        watchers = [
            asyncio.create_task(watch_to_the_last(addresses[0], node, chance.choice([0, 0, 0.05])))
            for node in watched
        ]
        await until(lambda: server.local_sets.watchers > 100)
        for _ in range(60):
            random_change(chance, store, nodes)
            await asyncio.sleep(chance.choice([0, 0, 0.01]))
        put(store, LAST.name)
        ends = await asyncio.wait_for(asyncio.gather(*watchers), PATIENCE)
        expected = {node: local_state(store, node) for node in nodes}
        for node, end in zip(watched, ends, strict=True):
            assert end == expected[node]
        await until(lambda: server.local_sets.watchers == 0)
    assert len({repr(state) for state in expected.values()}) > 5, "nodes that all see the same prove little"
