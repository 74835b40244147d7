"""A view that becomes another node's: only what differs between the two is told."""

from __future__ import annotations

import asyncio

import pytest

from kpng.localize import LocalView
from kpng.model import (
    ChangeSet,
    EndpointInfo,
    EndpointPort,
    IPSet,
    LocalNode,
    Node,
    PortMapping,
    Service,
    ServiceKey,
)
from kpng.store import Kind, Store


def _endpoint(number: int, node: str, zone: str = "") -> EndpointInfo:
    return EndpointInfo(
        addresses=IPSet((f"10.1.0.{number}",)),
        ports=(EndpointPort("", 8080),),
        pod_name=f"pod-{number}",
        node=node,
        zone_hints=(zone,) if zone else (),
    )


@pytest.fixture
def store() -> Store:
    filled = Store()
    with filled.transaction() as transaction:
        transaction.replace(*Kind)
        transaction.set_node(Node(name="n1", zone="za"))
        transaction.set_node(Node(name="n2", zone="zb"))
        for name in ("same", "hosted", "zoned"):
            transaction.set_service(Service(namespace="demo", name=name, ports=(PortMapping(port=80),)))
        transaction.set_source("same", ServiceKey("demo", "same"), [_endpoint(1, "n9")])
        transaction.set_source("hosted", ServiceKey("demo", "hosted"), [_endpoint(2, "n2")])
        zoned = [_endpoint(3, "n9", "za"), _endpoint(4, "n9", "zb")]
        transaction.set_source("zoned", ServiceKey("demo", "zoned"), zoned)
    return filled


async def test_the_difference_between_two_nodes_comes_at_once(store: Store) -> None:
    view = LocalView(store, "n1")
    await view.next()
    view.follow("n2")
    changes = await asyncio.wait_for(view.next(), 1)
    assert view.node == "n2"
    assert not changes.full
    assert {key.name for key in changes.changes} == {"hosted", "zoned"}
    zoned = changes.changes[ServiceKey("demo", "zoned")]
    assert zoned.old is not None
    assert zoned.new is not None
    assert (list(zoned.old.endpoints), list(zoned.new.endpoints)) == (["pod-3"], ["pod-4"])


async def test_a_node_that_sees_the_same_differs_only_in_itself(store: Store) -> None:
    view = LocalView(store, "n7")
    await view.next()
    view.follow("n8")
    assert await view.next() == ChangeSet({}, node=LocalNode(name="n8"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(view.next(), 0.02)
    with store.transaction() as transaction:
        transaction.set_source("same", ServiceKey("demo", "same"), [_endpoint(1, "n8")])
    assert set((await view.next()).changes) == {ServiceKey("demo", "same")}


async def test_to_follow_before_the_first_state_is_to_start_there(store: Store) -> None:
    view = LocalView(store, "n1")
    view.follow("n2")
    first = await view.next()
    assert first.full
    hosted = first.changes[ServiceKey("demo", "hosted")].new
    assert hosted is not None
    assert hosted.endpoints["pod-2"].local
