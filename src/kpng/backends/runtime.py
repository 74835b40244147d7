"""Drives a backend: feeds it change sets, merges what piles up, retries what failed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator

from kpng.host.conntrack import ConntrackUnavailableError
from kpng.model import ChangeSet, UserError

from .conntrack import ConntrackReconciler
from .contract import Backend

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 30.0
_REST = 2
"""The backend rests so many times as long as it was busy, up to a limit: what comes meanwhile goes together, so
that changes without end do not take a whole core. A change that finds it with nothing to do is applied at once."""
LONGEST_REST_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.05
"""While the backend is busy, its source is asked for more no oftener than this."""


async def run_backend(backend: Backend, changes: AsyncIterator[ChangeSet], *, once: bool = False) -> None:
    """Run until ``changes`` ends, or with ``once`` until the first change set is applied.

    A change is applied at once if the backend has nothing to do. While it is busy, rests or fails, later changes
    are merged, so the state waiting for it is never more than one change set. `UserError` ends the run; other
    errors are retried with backoff.
    """
    await backend.start()
    inbox = _Inbox()
    conntrack = backend.conntrack()
    helpers = [asyncio.create_task(inbox.fill(changes))]
    if conntrack and not once:
        helpers.append(asyncio.create_task(conntrack.run()))
    try:
        while (change_set := await inbox.take()) is not None:
            applied = await _apply(backend, change_set, inbox)
            if conntrack:
                conntrack.note(applied)
            if once:
                break
        if conntrack and once:
            await _reconcile_once(conntrack)
    finally:
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        await backend.stop()


async def _reconcile_once(conntrack: ConntrackReconciler) -> None:
    """What does not work is told, and no reason to fail: the services have been programmed."""
    try:
        await conntrack.reconcile()
    except (OSError, ConntrackUnavailableError) as error:
        log.warning("stale UDP flows are not removed: %s", error)
    finally:
        conntrack.close()


async def _apply(backend: Backend, change_set: ChangeSet, inbox: _Inbox) -> ChangeSet:
    """Apply until it succeeds; returns what was applied. New changes are merged in, but do not shorten the wait: a
    kernel that fails is not asked more often because the cluster is busy. One fault is logged once, not at each
    attempt."""
    fault, attempt = "", 0
    while True:
        try:
            await backend.apply(change_set)
        except UserError:
            raise
        except Exception as error:
            delay = _retry_delay(attempt)
            said = f"{type(error).__name__}: {error}"
            level = logging.DEBUG if said == fault else logging.WARNING
            log.log(level, "backend failed, retrying in %.1f s: %s", delay, said)
            log.debug("backend failure", exc_info=True)
            fault, attempt = said, attempt + 1
        else:
            if attempt:
                log.info("backend recovered after %d failed attempts", attempt)
            return change_set
        await asyncio.sleep(delay)
        change_set = await inbox.merge_into(change_set)


def _retry_delay(attempt: int) -> float:
    seconds: float = min(FIRST_RETRY_SECONDS * 2 ** min(attempt, 10), LAST_RETRY_SECONDS)
    return seconds * random.uniform(0.8, 1.2)


class _Inbox:
    """Holds at most one change set: everything that came since the last `take`."""

    def __init__(self) -> None:
        self._pending: ChangeSet | None = None
        self._ended = False
        self._error: Exception | None = None
        self._arrived = asyncio.Event()
        self._ready = asyncio.Event()
        """Whether the backend is about to take what comes."""
        self._taken_at = 0.0

    async def fill(self, changes: AsyncIterator[ChangeSet]) -> None:
        """While the backend is not ready, its source is left alone for a while: most sources merge for themselves
        what nobody has asked for yet, which is cheaper than making each step of it and merging those here."""
        try:
            async for change_set in changes:
                merged = self._pending.then(change_set) if self._pending else change_set
                self._pending = merged or None
                self._arrived.set()
                if not self._ready.is_set():
                    await self._until_ready()
        except Exception as error:
            self._error = error
        finally:
            self._ended = True
            self._arrived.set()

    async def _until_ready(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_PAUSE_SECONDS):
                await self._ready.wait()

    async def take(self) -> ChangeSet | None:
        """Rest from the last change set, then wait for changes; None when they have ended. Raises what ended
        them."""
        await self._rest()
        await self._invite()
        while True:
            await self._arrived.wait()
            taken = self._pop()
            if taken is not None or self._ended:  # else what came has gone again
                self._ready.clear()
                self._taken_at = time.monotonic()
                return taken

    async def _invite(self) -> None:
        """What the source has by now goes together."""
        self._ready.set()
        await asyncio.sleep(0)

    async def _rest(self) -> None:
        if self._taken_at and not self._ended:
            busy = time.monotonic() - self._taken_at
            await asyncio.sleep(min(_REST * busy, LONGEST_REST_SECONDS))

    async def merge_into(self, change_set: ChangeSet) -> ChangeSet:
        """``change_set`` and what came after it, as one. Raises what ended the changes."""
        await self._invite()
        later = self._pop()
        self._ready.clear()
        return change_set.then(later) if later else change_set

    def _pop(self) -> ChangeSet | None:
        taken, self._pending = self._pending, None
        if taken is None and self._error is not None:
            raise self._error
        if not self._ended:
            self._arrived.clear()
        return taken
