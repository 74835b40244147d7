"""A round of local state as single ops: their order."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from kpng.localize import LocalView
from kpng.model import ChangeSet, EndpointInfo, EndpointPort, IPSet, Node, PortMapping, Service, ServiceKey
from kpng.server.local_frames import change_frames, round_buffers
from kpng.store import Kind, Store
from kpng.wire.grpc import MessageReader
from kpng.wire.proto import localv1_pb2 as localv1

HTTP = (PortMapping(port=80, name="http", target_port=8080),)
Op = tuple[str, str, str]
"""What (set, delete), of which (service, endpoint), at which path."""


def a_service(name: str, **changes: object) -> Service:
    return Service(namespace="demo", name=name, ports=HTTP, **changes)  # type: ignore[arg-type]


def an_endpoint(address: str, pod: str = "", **changes: object) -> EndpointInfo:
    ports = (EndpointPort("http", 8080),)
    return EndpointInfo(addresses=IPSet((address,)), ports=ports, pod_name=pod, **changes)  # type: ignore[arg-type]


def a_store(services: dict[str, list[EndpointInfo]], nodes: Iterable[Node] = ()) -> Store:
    store = Store()
    with store.transaction() as transaction:
        transaction.replace(*Kind)
        for node in nodes:
            transaction.set_node(node)
        for name, endpoints in services.items():
            transaction.set_service(a_service(name))
            transaction.set_source(f"{name}-slice", ServiceKey("demo", name), endpoints)
    return store


def put(store: Store, services: dict[str, list[EndpointInfo] | None]) -> None:
    with store.transaction() as transaction:
        for name, endpoints in services.items():
            key = ServiceKey("demo", name)
            if endpoints is None:
                transaction.delete_service(key)
                transaction.delete_source("demo", f"{name}-slice")
            else:
                transaction.set_service(a_service(name))
                transaction.set_source(f"{name}-slice", key, endpoints)


def round_of(changes: ChangeSet | None) -> list[bytes]:
    assert changes is not None
    return list(round_buffers(change_frames(key, change) for key, change in changes.changes.items()))


def ops_in(buffers: Iterable[bytes]) -> list[Op]:
    ops = []
    for message in MessageReader().feed(b"".join(buffers)):
        op = localv1.OpItem.FromString(message)
        ref = op.Set.Ref if op.WhichOneof("Op") == "Set" else op.Delete
        kind = {localv1.ServicesSet: "service", localv1.EndpointsSet: "endpoint"}[ref.Set]
        ops.append(((op.WhichOneof("Op") or "").lower(), kind, ref.Path))
    return ops


def test_a_full_round_sets_services_then_endpoints() -> None:
    store = a_store({"web": [an_endpoint("10.1.0.2", "b"), an_endpoint("10.1.0.1", "a")], "api": []})
    changes = LocalView(store, "n1").advance(store.snapshot)
    assert ops_in(round_of(changes)) == [
        ("set", "service", "demo/api"),
        ("set", "service", "demo/web"),
        ("set", "endpoint", "demo/web/a"),
        ("set", "endpoint", "demo/web/b"),
    ]


def test_a_round_has_its_parts_in_the_order_of_the_go_kpng() -> None:
    unnamed_old, unnamed_new = an_endpoint("10.1.0.1"), an_endpoint("10.1.0.2")
    store = a_store(
        {
            "keep": [unnamed_old, an_endpoint("10.1.1.1", "gone"), an_endpoint("10.1.1.2", "same")],
            "old": [an_endpoint("10.1.2.1", "pod"), an_endpoint("10.1.2.2")],
            "older": [],
        }
    )
    view = LocalView(store, "n1")
    before = {path for _, kind, path in ops_in(round_of(view.advance(store.snapshot))) if kind == "endpoint"}
    put(
        store,
        {
            "keep": [unnamed_new, an_endpoint("10.1.1.2", "same"), an_endpoint("10.1.1.3", "new")],
            "new": [an_endpoint("10.1.3.1", "pod")],
            "old": None,
            "older": None,
        },
    )
    ops = ops_in(round_of(view.advance(store.snapshot)))
    unnamed = {path for path in before if path.startswith(("demo/keep/", "demo/old/"))} - {
        "demo/keep/gone",
        "demo/keep/same",
        "demo/old/pod",
    }
    assert ops == [
        ("set", "service", "demo/new"),
        *(("delete", "endpoint", path) for path in sorted(unnamed, reverse=True)),
        ("set", "endpoint", "demo/keep/new"),
        ("set", "endpoint", "demo/new/pod"),
        ("delete", "endpoint", "demo/old/pod"),
        ("delete", "endpoint", "demo/keep/gone"),
        ("set", "endpoint", replaced := ops[-3][2]),
        ("delete", "service", "demo/older"),
        ("delete", "service", "demo/old"),
    ]
    assert len(unnamed) == 2
    assert replaced.startswith("demo/keep/")
    assert replaced not in before


def test_paths_ascend_by_bytes_also_where_a_name_is_another_ones_beginning() -> None:
    pods = [an_endpoint("10.1.0.1", "a"), an_endpoint("10.1.0.2", "b")]
    store = a_store({"web": pods, "web-1": pods, "web0": pods})
    ops = ops_in(round_of(LocalView(store, "n1").advance(store.snapshot)))
    for wanted in ("service", "endpoint"):
        paths = [path for _, kind, path in ops if kind == wanted]
        assert paths == sorted(paths)


def test_both_addresses_of_a_dual_stack_pod_are_told() -> None:
    store = a_store({"web": []})
    key = ServiceKey("demo", "web")
    with store.transaction() as transaction:
        transaction.set_source("web-v4", key, [an_endpoint("10.1.0.1", "pod-a")])
        info = EndpointInfo(addresses=IPSet(v6=("fd00::1",)), ports=(EndpointPort("http", 8080),), pod_name="pod-a")
        transaction.set_source("web-v6", key, [info])
    ops = ops_in(round_of(LocalView(store, "n1").advance(store.snapshot)))
    assert [path for _, kind, path in ops if kind == "endpoint"] == ["demo/web/pod-a", "demo/web/pod-a:ipv6"]


def test_hints_alone_change_what_a_node_is_told() -> None:
    """The Go kpng left hints out of its hashes, so that such a change was lost."""

    def hinted(zone_a: str, zone_b: str) -> list[EndpointInfo]:
        return [
            an_endpoint("10.1.0.1", "a", zone_hints=(zone_a,)),
            an_endpoint("10.1.0.2", "b", zone_hints=(zone_b,)),
        ]

    store = a_store({"web": hinted("za", "zb")}, [Node(name="n1", zone="za")])
    view = LocalView(store, "n1")
    assert ops_in(round_of(view.advance(store.snapshot)))[1:] == [("set", "endpoint", "demo/web/a")]
    put(store, {"web": hinted("zb", "za")})
    assert ops_in(round_of(view.advance(store.snapshot))) == [
        ("set", "endpoint", "demo/web/b"),
        ("delete", "endpoint", "demo/web/a"),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_services_exist_before_their_endpoints_and_outlive_them(seed: int) -> None:
    chance = random.Random(seed)
    store = a_store({})
    view = LocalView(store, "n1")
    view.advance(store.snapshot)
    present: set[tuple[str, str]] = set()
    for _ in range(30):
        put(store, {name: _random_endpoints(chance) for name in chance.sample("abcdef", 3)})
        changes = view.advance(store.snapshot)
        if changes is None:
            continue
        ops = ops_in(round_of(changes))
        _check_sequence(ops, present)
    expected = {
        ("endpoint", f"{key}/{name}")
        for key, record in LocalView(store, "n1").advance(store.snapshot).changes.items()  # type: ignore[union-attr]
        for name in record.new.endpoints  # type: ignore[union-attr]
    }
    assert {each for each in present if each[0] == "endpoint"} == expected


def _random_endpoints(chance: random.Random) -> list[EndpointInfo] | None:
    if chance.random() < 0.3:
        return None
    return [
        an_endpoint(f"10.1.0.{number}", chance.choice(["", f"pod-{number}"]))
        for number in chance.sample(range(1, 6), chance.randrange(4))
    ]


def _check_sequence(ops: list[Op], present: set[tuple[str, str]]) -> None:
    """Apply the ops one by one; no endpoint may ever be without its service, nothing deleted that is not there."""
    for what, kind, path in ops:
        if what == "set":
            present.add((kind, path))
        else:
            present.remove((kind, path))
        services = {each for which, each in present if which == "service"}
        assert all(each.rsplit("/", 1)[0] in services for which, each in present if which == "endpoint")
