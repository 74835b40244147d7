"""Drives a backend: feeds it change sets, merges what piles up, retries what failed."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator

from kpng.model import ChangeSet, UserError

from .contract import Backend

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 30.0


async def run_backend(backend: Backend, changes: AsyncIterator[ChangeSet], *, once: bool = False) -> None:
    """Run until ``changes`` ends, or with ``once`` until the first change set is applied.

    While the backend is busy (or failing), later changes are merged, so the state waiting for it is never
    more than one change set. `UserError` ends the run; other errors are retried with backoff.
    """
    await backend.start()
    inbox = _Inbox()
    reader = asyncio.create_task(inbox.fill(changes))
    try:
        while (change_set := await inbox.take()) is not None:
            await _apply(backend, change_set, inbox)
            if once:
                break
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await backend.stop()


async def _apply(backend: Backend, change_set: ChangeSet, inbox: _Inbox) -> None:
    attempt = 0
    while True:
        try:
            await backend.apply(change_set)
        except UserError:
            raise
        except Exception as error:
            delay = min(FIRST_RETRY_SECONDS * 2**attempt, LAST_RETRY_SECONDS) * random.uniform(0.8, 1.2)
            log.warning("backend failed, retrying in %.1f s: %s: %s", delay, type(error).__name__, error)
            log.debug("backend failure", exc_info=True)
            attempt = min(attempt + 1, 10)
        else:
            if attempt:
                log.info("backend recovered")
            return
        await inbox.wait(delay)
        change_set = change_set.then(inbox.pending()) if inbox.has_pending else change_set


class _Inbox:
    """Holds at most one change set: everything that came since the last `take`."""

    def __init__(self) -> None:
        self._pending: ChangeSet | None = None
        self._ended = False
        self._error: BaseException | None = None
        self._arrived = asyncio.Event()

    async def fill(self, changes: AsyncIterator[ChangeSet]) -> None:
        try:
            async for change_set in changes:
                self._pending = self._pending.then(change_set) if self._pending else change_set
                self._arrived.set()
        except Exception as error:
            self._error = error
        finally:
            self._ended = True
            self._arrived.set()

    @property
    def has_pending(self) -> bool:
        return self._pending is not None

    def pending(self) -> ChangeSet:
        """What is waiting, removed from the inbox."""
        assert self._pending is not None
        taken, self._pending = self._pending, None
        if not self._ended:
            self._arrived.clear()
        return taken

    async def take(self) -> ChangeSet | None:
        """Wait for changes; None when they have ended. Raises what ended them."""
        await self._arrived.wait()
        if self._pending is not None:
            return self.pending()
        if self._error is not None:
            raise self._error
        return None

    async def wait(self, seconds: float) -> None:
        """Wait that long; new changes do not shorten it (a failing kernel is not asked more often)."""
        await asyncio.sleep(seconds)
