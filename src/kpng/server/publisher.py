"""Lets watchers know of new snapshots: at once when it is calm, at a bearable pace when it is not."""

from __future__ import annotations

import asyncio

from kpng.store import EMPTY, Snapshot, Store

from .past import Past

SECONDS_PER_WATCHER = 100e-6
"""From one time of telling everybody to the next. To tell one costs about half of that, so with thousands of
watchers half a processor goes into it, however many changes there are. The first after a pause is told at once."""
_WAKEN_TOGETHER = 128


class Publisher:
    """The newest complete snapshot, as watchers may see it."""

    def __init__(self, store: Store) -> None:
        self.current = EMPTY
        self._store = store
        self.past = Past()
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._task: asyncio.Task[None] | None = None

    async def newer(self, than: Snapshot) -> Snapshot:
        """Wait until there is a newer snapshot than this; return it."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        while self.current.revision <= than.revision:
            news = asyncio.get_running_loop().create_future()
            self._waiting[news] = None
            try:
                await news
            finally:
                self._waiting.pop(news, None)
        return self.current

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self.current = await self._store.newer(self.current)
            self.past.add(self.current)
            due = asyncio.get_running_loop().time() + len(self._waiting) * SECONDS_PER_WATCHER
            await self._wake()
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))

    async def _wake(self) -> None:
        """Wake all who wait, some at a time so that others have their turn."""
        waiting, self._waiting = list(self._waiting), {}
        for start in range(0, len(waiting), _WAKEN_TOGETHER):
            for news in waiting[start : start + _WAKEN_TOGETHER]:
                if not news.done():  # else its watcher has gone
                    news.set_result(None)
            await asyncio.sleep(0)
