from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import kpng.localize.difference as difference_module
from kpng.localize import LocalView, change_sets, localize
from kpng.model import ChangeSet, EndpointInfo, LocalNode, LocalService, Node, ServiceKey
from kpng.store import Kind, ServiceRecord, Store, Transaction
from kpng.testing import endpoint_info, key, service

WEB = key("demo/web")
POD = endpoint_info("10.1.0.1", pod_name="web-1", node="n2", zone_hints=("za",))


@contextmanager
def writing(store: Store) -> Iterator[Transaction]:
    """A transaction of a source that has seen everything."""
    with store.transaction() as staged:
        staged.mark_synced(*Kind)
        yield staged


def filled(*endpoints: EndpointInfo) -> Store:
    store = Store()
    with writing(store) as staged:
        staged.set_service(service("demo/web", "10.96.0.10"))
        staged.set_service(service("demo/dns", "10.96.0.11", ports="53/UDP"))
        staged.set_source("web-1", WEB, endpoints)
        staged.set_node(Node(name="n1", zone="za"))
    return store


def advance(view: LocalView, store: Store) -> ChangeSet:
    changes = view.advance(store.snapshot)
    assert changes is not None
    return changes


def test_the_first_change_set_is_everything() -> None:
    store = filled(POD)
    changes = advance(LocalView(store, "n1"), store)
    assert changes.full
    assert set(changes.changes) == {WEB, key("demo/dns")}
    assert all(change.old is None for change in changes.changes.values())


def test_the_first_change_set_comes_for_an_empty_cluster_too() -> None:
    store = Store()
    with store.transaction() as staged:
        staged.replace(*Kind)
    assert advance(LocalView(store, "n1"), store) == ChangeSet({}, full=True, node=LocalNode(name="n1"))


def test_later_change_sets_hold_only_what_differs() -> None:
    store = filled(POD)
    view = LocalView(store, "n1")
    before = advance(view, store).changes[WEB].new
    with writing(store) as staged:
        staged.set_source("web-2", WEB, [endpoint_info("10.1.0.2", pod_name="web-2")])
    changes = advance(view, store)
    assert not changes.full
    assert list(changes.changes) == [WEB]
    change = changes.changes[WEB]
    assert change.old is before
    assert not change.service_changed
    assert [name for name, _ in change.endpoints_set()] == ["web-2"]


def test_a_deleted_service_is_a_delete() -> None:
    store = filled(POD)
    view = LocalView(store, "n1")
    advance(view, store)
    with writing(store) as staged:
        staged.delete_service(WEB)
    change = advance(view, store).changes[WEB]
    assert change.new is None
    assert list(change.endpoints_deleted()) == ["web-1"]


def test_what_makes_no_difference_here_is_no_change() -> None:
    store = filled(POD)
    view = LocalView(store, "n1")
    advance(view, store)
    with writing(store) as staged:
        staged.set_node(Node(name="n2", zone="zb"))
        staged.set_node(Node(name="n1", zone="za", labels={"any": "label"}))
        staged.set_source("orphan", key("demo/unknown"), [POD])
        staged.set_source("web-2", WEB, [endpoint_info("10.1.0.2", ready=False, serving=False)])
    assert view.advance(store.snapshot) is None


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("hints", {"zone_hints": ("zb",)}),
    ("conditions", {"ready": False}),
    ("node", {"node": "n1"}),
    ("hostname", {"hostname": "other"}),
    ("pod-name", {"pod_name": "web-9"}),
    ("ports", {"ports": endpoint_info(port=81).ports}),
    ("addresses", {"addresses": endpoint_info("10.1.0.7").addresses}),
]


@pytest.mark.parametrize("fields", [c[1] for c in CHANGES], ids=[f"only-{c[0]}" for c in CHANGES])
def test_each_part_of_an_endpoint_takes_part_in_change_detection(fields: dict[str, Any]) -> None:
    other = endpoint_info("10.1.0.2", pod_name="web-2", node="n3", zone_hints=("zb",))
    store = filled(POD, other)
    view = LocalView(store, "n1")
    advance(view, store)
    with writing(store) as staged:
        staged.set_source("web-1", WEB, [replace(POD, **fields), other])
    assert list(advance(view, store).changes) == [WEB]


def test_b10_a_node_that_moves_to_another_zone_gets_that_zones_endpoints() -> None:
    other = endpoint_info("10.1.0.2", pod_name="web-2", zone_hints=("zb",))
    store = filled(POD, other)
    view = LocalView(store, "n1")
    assert set(advance(view, store).changes[WEB].new.endpoints) == {"web-1"}  # type: ignore[union-attr]
    with writing(store) as staged:
        staged.set_node(Node(name="n1", zone="zb"))
    change = advance(view, store).changes[WEB]
    assert [name for name, _ in change.endpoints_set()] == ["web-2"]
    assert list(change.endpoints_deleted()) == ["web-1"]
    with writing(store) as staged:
        staged.delete_node("n1")
    assert [name for name, _ in advance(view, store).changes[WEB].endpoints_set()] == ["web-1"]


def test_a_change_to_one_service_looks_at_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(POD)
    with writing(store) as staged:
        for number in range(500):
            staged.set_service(service(f"demo/s{number}"))
    views = [LocalView(store, f"n{number}") for number in range(3)]
    for view in views:
        advance(view, store)
    looked_at: list[ServiceKey] = []

    def counting(record: ServiceRecord, node: str, zone: str) -> LocalService | None:
        looked_at.append(record.key)
        return localize(record, node, zone)

    monkeypatch.setattr(difference_module, "localize", counting)
    with writing(store) as staged:
        staged.set_source("web-1", WEB, [])
    for view in views:
        advance(view, store)
    assert looked_at == [WEB] * 6  # before and after, for each view


def test_a_slow_reader_gets_one_change_set_for_all_it_missed() -> None:
    store = filled(POD)
    view = LocalView(store, "n1")
    first = advance(view, store).changes[WEB].new
    for number in range(2, 50):
        with writing(store) as staged:
            staged.set_source("web-1", WEB, [endpoint_info(f"10.1.0.{number}", pod_name="web-1")])
            staged.set_service(service(f"demo/short-lived-{number}"))
        with writing(store) as staged:
            staged.delete_service(key(f"demo/short-lived-{number}"))
    changes = advance(view, store)
    assert list(changes.changes) == [WEB]
    assert changes.changes[WEB].old is first


def test_what_was_changed_and_changed_back_is_no_change() -> None:
    store = filled(POD)
    view = LocalView(store, "n1")
    advance(view, store)
    for endpoints in ([], [POD]):
        with writing(store) as staged:
            staged.set_source("web-1", WEB, endpoints)
    assert view.advance(store.snapshot) is None


async def test_next_waits_for_what_matters() -> None:
    store = filled(POD)
    view = LocalView(store, "n1")
    assert (await view.next()).full
    waiting = asyncio.create_task(view.next())
    with writing(store) as staged:
        staged.set_node(Node(name="n9"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    with writing(store) as staged:
        staged.delete_service(WEB)
    assert list((await waiting).changes) == [WEB]


async def test_a_view_that_is_cancelled_goes_on_where_it_was() -> None:
    store = filled(POD)
    view = LocalView(store, "n1")
    await view.next()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(view.next(), 0.001)
    with writing(store) as staged:
        staged.delete_service(WEB)
    assert list((await view.next()).changes) == [WEB]


async def test_change_sets_without_end() -> None:
    store = filled(POD)
    stream = change_sets(store, "n1")
    assert (await anext(stream)).full
    with writing(store) as staged:
        staged.delete_service(WEB)
    assert list((await anext(stream)).changes) == [WEB]


# -- step by step, or from scratch -------------------------------------------------------------------------

_services = st.sampled_from([WEB, key("demo/dns"), key("other/web")])
_nodes = st.sampled_from(["n1", "n2"])
_zones = st.sampled_from(["", "za", "zb"])
_infos = st.builds(
    endpoint_info,
    st.sampled_from(["10.1.0.1", "10.1.0.2", "fd00::1"]),
    pod_name=st.sampled_from(["", "a", "b"]),
    node=st.sampled_from(["", "n1", "n2"]),
    ready=st.booleans(),
    terminating=st.booleans(),
    zone_hints=st.sampled_from([(), ("za",), ("zb",)]),
    node_hints=st.sampled_from([(), ("n1",)]),
)
_writes = st.one_of(
    st.tuples(st.just("service"), _services, st.booleans()),
    st.tuples(st.just("delete"), _services),
    st.tuples(st.just("source"), _services, st.sampled_from("st"), st.lists(_infos, max_size=3)),
    st.tuples(st.just("no-source"), _services, st.sampled_from("st")),
    st.tuples(st.just("node"), _nodes, _zones),
    st.tuples(st.just("no-node"), _nodes),
)


def write(staged: Transaction, words: tuple[Any, ...]) -> None:
    match words:
        case ("service", of, local):
            staged.set_service(service(str(of), "10.96.0.1", external_traffic_local=local))
        case ("delete", of):
            staged.delete_service(of)
        case ("source", of, name, infos):
            staged.set_source(name, of, infos)
        case ("no-source", of, name):
            staged.delete_source(of.namespace, name)
        case ("node", name, zone):
            staged.set_node(Node(name=name, zone=zone))
        case ("no-node", name):
            staged.delete_node(name)


def applied(state: dict[ServiceKey, LocalService], changes: ChangeSet | None) -> dict[ServiceKey, LocalService]:
    if changes is None:
        return state
    assert changes
    after = dict(state)
    for changed, change in changes.changes.items():
        assert change.differs
        assert (change.old is None) == (changed not in after)
        if change.new is None:
            del after[changed]
        else:
            after[changed] = change.new
    return after


def values(state: dict[ServiceKey, LocalService]) -> dict[ServiceKey, object]:
    return {key: (local.service, dict(local.endpoints)) for key, local in state.items()}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.lists(_writes, max_size=3), st.sets(_nodes)), max_size=12))
def test_step_by_step_adds_up_to_what_a_newcomer_is_told(
    steps: list[tuple[list[tuple[Any, ...]], set[str]]],
) -> None:
    store = Store()
    views = {node: LocalView(store, node) for node in ("n1", "n2")}
    states: dict[str, dict[ServiceKey, LocalService]] = {node: {} for node in views}
    with writing(store):
        pass
    for writes, reading in [*steps, ([], set(views))]:
        with store.transaction() as staged:
            for words in writes:
                write(staged, words)
        for node in reading:
            states[node] = applied(states[node], views[node].advance(store.snapshot))
            scratch = advance(LocalView(store, node), store)
            assert values(states[node]) == values(applied({}, scratch))
