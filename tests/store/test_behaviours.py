"""Behaviours by their ids (docs/semantics.md) that the store alone decides."""

from __future__ import annotations

import pytest

from kpng.model import Node, ServiceKey
from kpng.store import EMPTY, Kind, Store
from kpng.testing import endpoint_info, key, service

WEB, SHOP = key("demo/web"), key("demo/shop")


def addresses(store: Store, of: ServiceKey) -> list[str]:
    record = store.snapshot.services.get(of)
    return [info.addresses.v4[0] for _, info in record.endpoints()] if record else []


def test_a17_a_slice_belongs_to_its_namespace() -> None:
    store = Store()
    with store.transaction() as staged:
        staged.set_source("web-1", WEB, [endpoint_info("10.1.0.1")])
        staged.set_source("web-1", key("other/web"), [endpoint_info("10.1.0.2")])
        staged.delete_source("other", "web-1")
    assert addresses(store, WEB) == ["10.1.0.1"]
    assert addresses(store, key("other/web")) == []


@pytest.mark.parametrize("relisted", [False, True])
def test_a24_x4_a_slice_that_moves_changes_both_services(relisted: bool) -> None:
    """Also where nobody saw it move: a list after a broken watch tells only where it is now."""
    store = Store()
    with store.transaction() as staged:
        staged.set_service(service("demo/web"))
        staged.set_service(service("demo/shop"))
        staged.set_source("s", WEB, [endpoint_info("10.1.0.1")])
        staged.mark_synced(*Kind)
    before = store.snapshot
    with store.transaction() as staged:
        if relisted:
            staged.replace(Kind.ENDPOINTS)
        staged.set_source("s", SHOP, [endpoint_info("10.1.0.1")])
    assert store.snapshot.changed_services(before) == [SHOP, WEB]
    assert (addresses(store, WEB), addresses(store, SHOP)) == ([], ["10.1.0.1"])
    with store.transaction() as staged:
        staged.delete_source("demo", "s")
    assert (addresses(store, WEB), addresses(store, SHOP)) == ([], [])


def test_a23_an_equal_object_is_no_revision_and_a_resync_neither() -> None:
    store = Store()
    for _ in range(3):
        with store.transaction() as staged:
            staged.replace(*Kind)
            staged.set_service(service("demo/web", "10.96.0.1"))
            staged.set_source("s", WEB, [endpoint_info("10.1.0.1")])
            staged.set_node(Node(name="n1", zone="za"))
            staged.set_service_cidrs("kubernetes", ["10.96.0.0/16"])
    assert store.snapshot.revision == 1


def test_x13_each_service_cidr_is_held_by_its_name() -> None:
    """Two objects with one CIDR: it stays until the second is gone, however it goes."""
    store = Store()
    with store.transaction() as staged:
        staged.set_service_cidrs("a", ["10.96.0.0/16"])
        staged.set_service_cidrs("b", ["10.96.0.0/16", "10.97.0.0/16"])
    with store.transaction() as staged:
        staged.delete_service_cidrs("a")
    assert dict(store.snapshot.service_cidrs) == {"b": ("10.96.0.0/16", "10.97.0.0/16")}
    with store.transaction() as staged:  # deleted while nobody looked
        staged.replace(Kind.SERVICE_CIDRS)
    assert dict(store.snapshot.service_cidrs) == {}


def test_q1_the_order_in_which_kinds_are_seen_does_not_matter() -> None:
    for first in Kind:
        store = Store()
        with store.transaction() as staged:
            staged.mark_synced(*(kind for kind in Kind if kind is not first))
        assert not store.snapshot.complete
        with store.transaction() as staged:
            staged.mark_synced(first)
        assert store.snapshot.complete


def test_x17_a_change_costs_the_services_it_changes() -> None:
    """However many there are: what did not change is the very same object, and is not looked at."""
    store = Store()
    with store.transaction() as staged:
        staged.mark_synced(*Kind)
        for number in range(500):
            staged.set_service(service(f"demo/s{number}"))
    before = store.snapshot
    with store.transaction() as staged:
        staged.set_source("s", key("demo/s7"), [endpoint_info("10.1.0.1")])
    after = store.snapshot
    assert after.changed_services(before) == [key("demo/s7")]
    same = [of for of in before.services if before.services[of] is after.services[of]]
    assert len(same) == 499
    assert len(after.changed_services(EMPTY)) == 500
