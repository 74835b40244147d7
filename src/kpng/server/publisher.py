"""Lets watchers know of new snapshots: at once when it is calm, at a bearable pace when it is not."""

from __future__ import annotations

import asyncio

from kpng.store import EMPTY, Snapshot, Store

SECONDS_PER_WATCHER = 100e-6
"""From one time of telling everybody to the next. To tell one costs about half of that, so with thousands of
watchers half a processor goes into it, however many changes there are. The first after a pause is told at once."""
_WAKEN_TOGETHER = 128
_REMEMBERED = 1024


class Publisher:
    """The newest complete snapshot, as watchers may see it."""

    def __init__(self, store: Store) -> None:
        self.current = EMPTY
        self._store = store
        self._waiting: list[asyncio.Future[None]] = []
        self._past: dict[int, Snapshot] = {}
        self._task: asyncio.Task[None] | None = None

    async def newer(self, than: Snapshot) -> Snapshot:
        """Wait until there is a newer snapshot than this; return it."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        while self.current.revision <= than.revision:
            news = asyncio.get_running_loop().create_future()
            self._waiting.append(news)
            await news
        return self.current

    def past(self, revision: int) -> Snapshot | None:
        """A snapshot that has been published, not too long ago."""
        return self._past.get(revision)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self.current = await self._store.newer(self.current)
            self._past[self.current.revision] = self.current
            if len(self._past) > _REMEMBERED:
                del self._past[next(iter(self._past))]
            due = asyncio.get_running_loop().time() + len(self._waiting) * SECONDS_PER_WATCHER
            await self._wake()
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))

    async def _wake(self) -> None:
        """Wake all who wait, some at a time so that others have their turn."""
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), _WAKEN_TOGETHER):
            for news in waiting[start : start + _WAKEN_TOGETHER]:
                if not news.done():  # else its watcher has gone
                    news.set_result(None)
            await asyncio.sleep(0)
