"""The global state: what a watcher costs."""

from __future__ import annotations

import tracemalloc
from typing import cast

from kpng.server.global_ import GlobalWatcher
from kpng.server.grpc import ServerCall
from kpng.server.watchers import Patience
from kpng.store import Kind, Store
from kpng.testing import endpoint_info, key


def a_watcher(store: Store) -> GlobalWatcher:
    return GlobalWatcher(Patience(cast(ServerCall, None)), store)


async def test_of_a_whole_global_state_nothing_is_held_for_a_reader() -> None:
    """It is put together as it is read: what nobody reads costs nothing."""
    store = Store()
    with store.transaction() as staged:
        staged.replace(*Kind)
        for number in range(10):
            pods = [endpoint_info(f"10.{number}.{n // 250}.{n % 250 + 1}", pod_name=f"p{n}") for n in range(1000)]
            staged.set_source(f"s{number}", key(f"demo/s{number}"), pods)
    size = sum(map(len, await a_watcher(store).next(set())))
    tracemalloc.start()
    rounds = [await a_watcher(store).next(set()) for _ in range(10)]
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(rounds) == 10
    assert held < size
    assert [sum(map(len, each)) for each in rounds] == [size] * 10
