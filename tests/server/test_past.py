"""What is remembered of the past is bounded by what it costs."""

from __future__ import annotations

import gc

import pytest

from kpng.server import past
from kpng.server.past import Past
from kpng.store import ServiceRecord, Snapshot, Store
from kpng.testing import endpoint_info, key

WEB = key("demo/web")


def change(store: Store, number: int, endpoints: int = 2) -> Snapshot:
    with store.transaction() as staged:
        infos = [endpoint_info(f"10.{number % 250}.{n // 250}.{n % 250 + 1}") for n in range(endpoints)]
        staged.set_source("web", WEB, infos)
    return store.snapshot


def test_what_was_told_is_there_by_its_revision() -> None:
    store, told = Store(), Past()
    snapshots = [change(store, number) for number in range(5)]
    for snapshot in snapshots:
        told.add(snapshot)
    assert [told.get(snapshot.revision) for snapshot in snapshots] == snapshots
    assert told.get(store.snapshot.revision + 1) is None


def test_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "MOST", 3)
    store, told = Store(), Past()
    snapshots = [change(store, number) for number in range(6)]
    for snapshot in snapshots:
        told.add(snapshot)
    assert [told.get(snapshot.revision) is not None for snapshot in snapshots] == [False] * 3 + [True] * 3


def test_of_large_services_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three versions of 100 endpoints are kept beside the one that is there anyway."""
    monkeypatch.setattr(past, "MOST_ENDPOINTS", 300)
    store, told = Store(), Past()
    for number in range(20):
        told.add(change(store, number, endpoints=100))
        assert told.get(store.snapshot.revision) is store.snapshot
    gc.collect()
    versions = [each for each in gc.get_objects() if isinstance(each, ServiceRecord) and each.key == WEB]
    assert len(versions) == 4


def test_a_first_snapshot_of_any_size_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "MOST_ENDPOINTS", 10)
    store, told = Store(), Past()
    first = change(store, 0, endpoints=100)
    told.add(first)
    with store.transaction() as staged:
        staged.set_source("api", key("demo/api"), [endpoint_info("10.9.9.9")])
    told.add(store.snapshot)
    assert told.get(first.revision) is first
