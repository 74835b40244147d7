from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress

import pytest

from kpng.model import EndpointInfo, Node
from kpng.store import EMPTY, Kind, ServiceRecord, Snapshot, Store, Transaction
from kpng.testing import endpoint_info, key, service

WEB, DNS = key("demo/web"), key("demo/dns")
A, B = endpoint_info("10.1.0.1"), endpoint_info("10.1.0.2")


class BrokenSourceError(Exception):
    pass


def sources(snapshot: Snapshot, text: str) -> dict[str, tuple[EndpointInfo, ...]]:
    record = snapshot.services.get(key(text))
    return dict(record.sources) if record else {}


def test_a_new_store_is_empty_and_incomplete() -> None:
    store = Store()
    assert store.snapshot is EMPTY
    assert not store.snapshot.complete
    assert store.snapshot.changed_services(EMPTY) == []


def test_a_transaction_is_one_revision() -> None:
    store = Store()
    with store.transaction() as staged:
        staged.set_service(service("demo/web"))
        staged.set_service(service("demo/dns"))
        staged.set_source("web-1", WEB, [A, B])
        staged.set_node(Node(name="n1", zone="za"))
    assert store.snapshot.revision == 1
    assert store.snapshot.changed_services(EMPTY) == [DNS, WEB]
    assert store.snapshot.changed_nodes(EMPTY) == ["n1"]
    assert list(store.snapshot.services[WEB].endpoints()) == [("web-1", A), ("web-1", B)]


def test_endpoints_come_in_the_order_of_their_sources() -> None:
    store = Store()
    with store.transaction() as staged:
        staged.set_source("b", WEB, [B])
        staged.set_source("a", WEB, [A])
    assert [source for source, _ in store.snapshot.services[WEB].endpoints()] == ["a", "b"]


def test_an_exception_inside_drops_everything() -> None:
    store = Store()
    with store.transaction() as staged:
        staged.set_service(service("demo/web"))
    before = store.snapshot
    with suppress(BrokenSourceError), store.transaction() as staged:
        staged.replace(*Kind)
        staged.delete_service(WEB)
        staged.set_source("dns-1", DNS, [A])
        raise BrokenSourceError
    assert store.snapshot is before
    with store.transaction() as staged:
        staged.delete_source("demo", "dns-1")
    assert store.snapshot is before


def test_the_last_word_on_a_key_counts() -> None:
    store = Store()
    with store.transaction() as staged:
        staged.set_service(service("demo/web"))
        staged.delete_service(WEB)
        staged.delete_service(DNS)
        staged.set_service(service("demo/dns"))
        staged.set_node(Node(name="n1"))
        staged.delete_node("n1")
    assert list(store.snapshot.services) == [DNS]
    assert not store.snapshot.nodes


NOTHING_NEW: list[Callable[[Transaction], None]] = [
    lambda staged: None,
    lambda staged: staged.set_service(service("demo/web")),
    lambda staged: staged.set_source("web-1", WEB, [endpoint_info("10.1.0.1")]),
    lambda staged: staged.set_node(Node(name="n1", zone="za")),
    lambda staged: staged.delete_service(key("demo/unknown")),
    lambda staged: staged.delete_source("demo", "unknown"),
    lambda staged: staged.delete_node("unknown"),
    lambda staged: staged.mark_synced(Kind.NODES),
]


@pytest.mark.parametrize("write", NOTHING_NEW)
def test_no_revision_without_a_change(write: Callable[[Transaction], None]) -> None:
    store = Store()
    with store.transaction() as staged:
        staged.set_service(service("demo/web"))
        staged.set_source("web-1", WEB, [A])
        staged.set_node(Node(name="n1", zone="za"))
        staged.mark_synced(Kind.NODES)
    before = store.snapshot
    with store.transaction() as staged:
        write(staged)
    assert store.snapshot is before


def test_a_relist_of_the_same_is_no_change_but_for_being_synced() -> None:
    store = Store()
    for expected in (1, 1):
        with store.transaction() as staged:
            staged.replace(Kind.SERVICES)
            staged.set_service(service("demo/web"))
        assert store.snapshot.revision == expected
    assert store.snapshot.synced == {Kind.SERVICES}


def test_a_relist_deletes_what_it_does_not_mention() -> None:
    store = Store()
    with store.transaction() as staged:
        staged.set_service(service("demo/web"))
        staged.set_service(service("demo/dns"))
        staged.set_source("web-1", WEB, [A])
        staged.set_source("dns-1", DNS, [B])
        staged.set_node(Node(name="n1"))
        staged.set_node(Node(name="n2"))
    kept = store.snapshot.services[WEB]
    with store.transaction() as staged:
        staged.replace(*Kind)
        staged.set_service(service("demo/web"))
        staged.set_source("web-1", WEB, [A])
        staged.set_node(Node(name="n2"))
    assert dict(store.snapshot.services) == {WEB: kept}
    assert list(store.snapshot.nodes) == ["n2"]


def test_a_relist_of_one_kind_leaves_the_others() -> None:
    store = Store()
    with store.transaction() as staged:
        staged.set_service(service("demo/web"))
        staged.set_source("web-1", WEB, [A])
        staged.set_node(Node(name="n1"))
    with store.transaction() as staged:
        staged.replace(Kind.SERVICES)
    record = store.snapshot.services[WEB]
    assert record.service is None
    assert record.sources == {"web-1": (A,)}
    assert list(store.snapshot.nodes) == ["n1"]
    with store.transaction() as staged:
        staged.replace(Kind.ENDPOINTS)
    assert WEB not in store.snapshot.services


def test_a_relist_drops_what_was_staged_for_its_kind_before() -> None:
    store = Store()
    with store.transaction() as staged:
        staged.set_service(service("demo/old"))
        staged.set_source("old-1", key("demo/old"), [A])
        staged.set_node(Node(name="old"))
        staged.replace(*Kind)
        staged.set_service(service("demo/web"))
    assert list(store.snapshot.services) == [WEB]
    assert not store.snapshot.nodes


def test_nothing_at_all_still_syncs() -> None:
    store = Store()
    with store.transaction() as staged:
        staged.mark_synced(Kind.SERVICES, Kind.ENDPOINTS, Kind.SERVICE_CIDRS)
    assert not store.snapshot.complete
    with store.transaction() as staged:
        staged.replace(Kind.NODES)
    assert store.snapshot.complete
    assert store.snapshot.revision == 2


def test_a_source_that_moves_changes_both_services() -> None:  # A24, X4: kube-proxy leaks them
    store = Store()
    with store.transaction() as staged:
        staged.set_service(service("demo/web"))
        staged.set_source("slice", WEB, [A])
    before = store.snapshot
    with store.transaction() as staged:
        staged.set_source("slice", DNS, [A])
    assert store.snapshot.changed_services(before) == [DNS, WEB]
    assert sources(store.snapshot, "demo/web") == {}
    assert sources(store.snapshot, "demo/dns") == {"slice": (A,)}
    with store.transaction() as staged:
        staged.delete_source("demo", "slice")
    assert list(store.snapshot.services) == [WEB]


def test_sources_of_one_name_in_two_namespaces_are_two() -> None:
    store = Store()
    with store.transaction() as staged:
        staged.set_source("slice", WEB, [A])
        staged.set_source("slice", key("other/web"), [B])
        staged.delete_source("demo", "slice")
    assert sources(store.snapshot, "demo/web") == {}
    assert sources(store.snapshot, "other/web") == {"slice": (B,)}


def test_an_unchanged_service_keeps_its_record() -> None:
    """What layers above keep in `derived` lives on."""
    store = Store()
    with store.transaction() as staged:
        staged.set_service(service("demo/web"))
        staged.set_service(service("demo/dns"))
    record = store.snapshot.services[WEB]
    record.derived["answer"] = 42
    with store.transaction() as staged:
        staged.set_source("dns-1", DNS, [A])
        staged.set_service(service("demo/web"))
    assert store.snapshot.services[WEB] is record


def test_old_snapshots_stay_as_they_were() -> None:
    store = Store()
    with store.transaction() as staged:
        staged.set_source("web-1", WEB, [A])
    old = store.snapshot
    with store.transaction() as staged:
        staged.set_source("web-1", WEB, [B])
        staged.set_source("web-2", WEB, [A])
    assert sources(old, "demo/web") == {"web-1": (A,)}


def test_what_changed_between_two_old_snapshots_leaves_out_what_came_later() -> None:
    store = Store()
    snapshots = [store.snapshot]
    for name in ("a", "b", "c"):
        with store.transaction() as staged:
            staged.set_service(service(f"demo/{name}"))
        snapshots.append(store.snapshot)
    assert snapshots[2].changed_services(snapshots[1]) == [key("demo/b")]
    assert snapshots[2].changed_services(snapshots[0]) == [key("demo/a"), key("demo/b")]


def test_what_came_and_went_is_no_change() -> None:
    store = Store()
    before = store.snapshot
    with store.transaction() as staged:
        staged.set_service(service("demo/web"))
    with store.transaction() as staged:
        staged.delete_service(WEB)
    assert store.snapshot.changed_services(before) == []


def test_after_more_deletes_than_are_remembered_readers_still_learn_everything() -> None:
    store = Store()
    names = [f"demo/s{number}" for number in range(5000)]
    with store.transaction() as staged:
        for name in names:
            staged.set_service(service(name))
            staged.set_node(Node(name=name))
    old = store.snapshot
    with store.transaction() as staged:
        staged.replace(Kind.SERVICES, Kind.NODES)
        staged.set_service(service("demo/new"))
        staged.set_node(Node(name="new"))
    assert len(store.snapshot.changed_services(old)) == 5001
    assert len(store.snapshot.changed_nodes(old)) == 5001


def test_a_reader_that_never_reads_costs_nothing_per_change() -> None:
    """Its own old snapshot, and nothing of all that came and went since."""
    gc.collect()
    others = _records_alive()
    store = Store()
    with store.transaction() as staged:
        staged.set_service(service("demo/dns"))
    old = store.snapshot
    for number in range(3000):
        with store.transaction() as staged:
            staged.set_source("web-1", WEB, [endpoint_info(f"10.1.{number >> 8}.{number & 255}")])
            staged.set_service(service(f"demo/once-{number}"))
        with store.transaction() as staged:
            staged.delete_service(key(f"demo/once-{number}"))
    assert store.snapshot.changed_services(old) == [WEB]
    assert _records_alive() - others == 2


def _records_alive() -> int:
    return sum(isinstance(thing, ServiceRecord) for thing in gc.get_objects())


# -- waiting ----------------------------------------------------------------------------------------------


def fill(store: Store, name: str = "demo/web") -> None:
    with store.transaction() as staged:
        staged.set_service(service(name))
        staged.mark_synced(*Kind)


async def test_who_waits_is_woken_by_a_newer_state() -> None:
    store = Store()
    waiting = [asyncio.create_task(store.newer(EMPTY)) for _ in range(5)]
    await asyncio.sleep(0)
    fill(store)
    assert await asyncio.gather(*waiting) == [store.snapshot] * 5


async def test_who_is_behind_does_not_wait() -> None:
    store = Store()
    fill(store)
    assert await asyncio.wait_for(store.newer(EMPTY), 1) is store.snapshot


async def test_nobody_is_told_of_an_incomplete_state() -> None:
    store = Store()
    waiting = asyncio.create_task(store.newer(EMPTY))
    with store.transaction() as staged:
        staged.set_service(service("demo/web"))
        staged.mark_synced(Kind.SERVICES)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    with store.transaction() as staged:
        staged.mark_synced(Kind.ENDPOINTS, Kind.NODES, Kind.SERVICE_CIDRS)
    assert (await waiting).complete


async def test_a_failed_transaction_wakes_nobody() -> None:
    store = Store()
    fill(store)
    waiting = asyncio.create_task(store.newer(store.snapshot))
    await asyncio.sleep(0)
    with suppress(BrokenSourceError), store.transaction() as staged:
        staged.set_service(service("demo/dns"))
        raise BrokenSourceError
    await asyncio.sleep(0)
    assert not waiting.done()
    fill(store, "demo/dns")
    await waiting


async def test_who_gives_up_leaves_nothing_behind() -> None:
    store = Store()
    for _ in range(100):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.newer(EMPTY), 0.0001)
    assert not store._advanced._waiters  # type: ignore[attr-defined]
