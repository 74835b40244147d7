"""News are told at once when it is calm, and not too often when it is not."""

from __future__ import annotations

import asyncio

import pytest

from kpng.model import Node
from kpng.server import publisher
from kpng.server.publisher import Publisher
from kpng.store import EMPTY, Kind, Snapshot, Store

PATIENCE = 5


def change(store: Store, number: int) -> Snapshot:
    with store.transaction() as staged:
        staged.mark_synced(*Kind)
        staged.set_node(Node(name="n", zone=f"z{number}"))
    return store.snapshot


async def test_nothing_is_published_before_everything_has_been_seen() -> None:
    store = Store()
    with store.transaction() as staged:
        staged.set_node(Node(name="n"))
    published = Publisher(store)
    waiting = asyncio.ensure_future(published.newer(EMPTY))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    snapshot = change(store, 1)
    assert await asyncio.wait_for(waiting, PATIENCE) is snapshot
    await published.close()


async def test_thousands_are_woken_with_others_in_between() -> None:
    store = Store()
    published = Publisher(store)
    first = change(store, 0)
    assert await published.newer(EMPTY) is first
    waiting = [asyncio.ensure_future(published.newer(first)) for _ in range(2000)]
    gone = [asyncio.ensure_future(published.newer(first)) for _ in range(50)]
    await asyncio.sleep(0)
    for each in gone:
        each.cancel()
    turns = 0
    snapshot = change(store, 1)
    while not all(each.done() for each in waiting):
        turns += 1
        await asyncio.sleep(0)
    assert turns > 10
    assert {each.result() for each in waiting} == {snapshot}
    await published.close()


async def test_under_load_changes_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time somebody waits, the next news wait for as long as telling that many takes."""
    monkeypatch.setattr(publisher, "SECONDS_PER_WATCHER", 0.1)
    store = Store()
    published = Publisher(store)
    seen = await published.newer(EMPTY) if store.snapshot.complete else change(store, 0)
    told = 0
    loop = asyncio.get_running_loop()

    async def follow() -> None:
        nonlocal seen, told
        while True:
            seen = await published.newer(seen)
            told += 1

    following = asyncio.create_task(follow())
    start = loop.time()
    number = 0
    while loop.time() - start < 0.55:
        number += 1
        change(store, number)
        await asyncio.sleep(0.002)
    last = store.snapshot
    await asyncio.sleep(0.25)
    assert 3 <= told <= 8
    assert number > 20
    assert seen is last
    following.cancel()
    await published.close()


async def test_who_leaves_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither memory nor, as one of those who are to be told, time."""
    monkeypatch.setattr(publisher, "SECONDS_PER_WATCHER", 1.0)
    store = Store()
    published = Publisher(store)
    seen = change(store, 0)
    assert await published.newer(EMPTY) is seen
    gone = [asyncio.ensure_future(published.newer(seen)) for _ in range(50)]
    await asyncio.sleep(0)
    for each in gone:
        each.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    assert not published._waiting
    for number in (1, 2):
        waiting = asyncio.ensure_future(published.newer(seen))
        await asyncio.sleep(0)
        snapshot = change(store, number)
        seen = await asyncio.wait_for(waiting, 3)
        assert seen is snapshot
        assert published.past.get(seen.revision) is seen
    await published.close()
