"""Bytes are made once: for all watchers of a zone, and again only for what changed."""

from __future__ import annotations

import asyncio
import gc

from kpng.localize import Place, place_of
from kpng.model import EndpointInfo, Node
from kpng.server.encodings import Batches, Ops
from kpng.server.rounds import Rounds
from kpng.server.steps import STEP
from kpng.store import Kind, ServiceRecord, Store
from kpng.testing import endpoint_info, key, service

COUNT = 50


def a_store() -> Store:
    """Services of one endpoint each, on n0, n1, ...; nodes in zones za and zb."""
    store = Store()
    with store.transaction() as staged:
        staged.replace(*Kind)
        for number in range(COUNT):
            staged.set_service(service(f"demo/s{number}"))
        for number in range(COUNT):
            staged.set_node(Node(name=f"n{number}", zone=f"z{'ab'[number % 2]}"))
    for number in range(COUNT):
        put(store, number, pod(number))
    return store


def pod(number: int, **fields: object) -> EndpointInfo:
    return endpoint_info(f"10.1.0.{number + 1}", pod_name=f"p{number}", node=f"n{number % COUNT}", **fields)


def put(store: Store, number: int, *pods: EndpointInfo) -> None:
    with store.transaction() as staged:
        staged.set_source(f"s{number}", key(f"demo/s{number}"), pods)


async def test_nodes_share_the_bytes_of_the_whole_state() -> None:
    store, rounds = a_store(), Rounds(Ops())
    stranger, other = [await rounds.whole(place_of(store.snapshot, name)) for name in ("x", "y")]
    assert rounds.encoded == COUNT
    assert [id(buffer) for buffer in stranger] == [id(buffer) for buffer in other]
    host = await rounds.whole(place_of(store.snapshot, "n7"))
    assert rounds.encoded == COUNT + 1  # its own endpoint
    assert [id(buffer) for buffer in host[:-1]] == [id(buffer) for buffer in other]


async def test_a_change_has_one_service_encoded_again() -> None:
    store, rounds = a_store(), Rounds(Batches("me"))
    await rounds.whole(place_of(store.snapshot, "x"))
    put(store, 7, pod(7), pod(20))
    await rounds.whole(place_of(store.snapshot, "x"))
    assert rounds.encoded == COUNT + 1


async def test_a_change_is_encoded_once_for_all_but_the_hosts_concerned() -> None:
    store, rounds = a_store(), Rounds(Ops())
    old = store.snapshot
    put(store, 7, pod(7), pod(20))
    told = {
        name: await rounds.between(place_of(old, name), place_of(store.snapshot, name))
        for name in [*(f"n{number}" for number in range(COUNT)), "x"]
    }
    assert rounds.encoded == 2  # for n20, and for all others
    assert len({id(buffer) for buffer in told.values()}) == 2
    assert told["n20"] != told["x"]


async def test_zones_that_hints_name_have_bytes_of_their_own() -> None:
    store, rounds = a_store(), Rounds(Ops())
    put(store, 3, pod(3, zone_hints=("za",)), pod(4, zone_hints=("zb",)))
    for name in ("n10", "n12", "n11", "n13"):  # za, za, zb, zb; each has an endpoint of its own too
        await rounds.whole(place_of(store.snapshot, name))
    in_buckets = rounds.encoded - 4
    bucket = next(b for b in store.snapshot.services.buckets if key("demo/s3") in b.entries)
    assert in_buckets == COUNT + len(bucket.entries)  # only that bucket was encoded twice


async def test_many_who_ask_at_once_have_it_made_once() -> None:
    store, rounds = a_store(), Rounds(Batches("me"))
    places = [place_of(store.snapshot, f"x{number}") for number in range(100)]
    taken = await asyncio.gather(*map(rounds.whole, places))
    assert rounds.encoded == COUNT
    assert all(len(each) == len(taken[0]) for each in taken)
    old = store.snapshot
    with store.transaction() as staged:
        for number in range(COUNT):
            staged.set_source(f"s{number}", key(f"demo/s{number}"), [])
    now = [place_of(store.snapshot, place.node) for place in places]
    told = await asyncio.gather(*(rounds.between(Place(old, p.node, p.zone), p) for p in now))
    assert rounds.encoded == 2 * COUNT
    assert len({id(buffer) for buffer in told}) == 1


async def test_bytes_die_with_the_snapshots_that_need_them() -> None:
    store, rounds = a_store(), Rounds(Ops())
    place = place_of(store.snapshot, "x")
    await rounds.whole(place)
    for number in range(200):
        put(store, number % COUNT, pod((number * 7 + 1) % COUNT))
        later = place_of(store.snapshot, "x")
        await rounds.between(place, later)
        place = later
    gc.collect()
    alive = [each for each in gc.get_objects() if isinstance(each, ServiceRecord) and each.key.namespace == "demo"]
    assert COUNT <= len(alive) < COUNT + 40  # those of the last differences, each with what went before it


async def test_nothing_to_tell_is_no_bytes() -> None:
    store, rounds = a_store(), Rounds(Ops())
    old = place_of(store.snapshot, "x")
    with store.transaction() as staged:
        staged.set_node(Node(name="another"))
    assert await rounds.between(old, place_of(store.snapshot, "x")) == b""


async def test_others_have_their_turn_while_much_is_compared() -> None:
    """After a relist, say: thousands of services differ at once."""
    store, rounds = a_store(), Rounds(Batches("me"))
    before = place_of(store.snapshot, "x")
    with store.transaction() as staged:
        for number in range(COUNT):
            staged.set_service(service(f"demo/s{number}", labels={"new": "yes"}))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    after = place_of(store.snapshot, "x")
    cut_off = asyncio.create_task(rounds.between(before, after))
    await asyncio.sleep(0)
    cut_off.cancel()  # whose watcher left while it was at it
    assert await rounds.between(before, after) == await rounds.between(before, after) != b""
    assert rounds.encoded == COUNT
    assert turns >= COUNT // STEP
    counting.cancel()
