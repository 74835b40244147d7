"""A connection that has ended is gone at once: garbage in cycles would pile up until somebody collects it."""

from __future__ import annotations

import gc
from contextlib import aclosing

from tests.client.brain import a_store, serving, told

from kpng.client import watch_local
from kpng.wire.http2 import Connection


async def test_nothing_is_left_of_a_connection(address: str) -> None:
    async with serving(a_store("web"), address):
        gc.collect()
        gc.disable()
        try:
            before = _connections()
            for _ in range(5):
                async with aclosing(watch_local(address, "n1")) as changes:
                    await told(changes)
        finally:
            gc.enable()
    assert _connections() == before


def _connections() -> int:
    return sum(isinstance(each, Connection) for each in gc.get_objects())
