"""A backend that makes nothing real, but remembers everything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from kpng.backends import Backend
from kpng.model import ChangeSet, LocalService, ServiceKey


class RecordingBackend(Backend):
    """Keeps what it was given. ``failures`` are raised by the first calls of `apply`, one each; ``seconds`` is
    how long each call takes.

    ``asked`` are all change sets it was called with, ``applied`` those that succeeded, and ``services`` the
    state they add up to; ``calls`` names the methods that were called, in order.
    """

    help = "Remember what this node must do; for tests."

    def __init__(self, failures: Iterable[Exception] = (), seconds: float = 0) -> None:
        self.asked: list[ChangeSet] = []
        self.applied: list[ChangeSet] = []
        self.services: dict[ServiceKey, LocalService] = {}
        self.calls: list[str] = []
        self._failures = list(failures)
        self._seconds = seconds
        self._progress = asyncio.Condition()

    async def start(self) -> None:
        self.calls.append("start")

    async def stop(self) -> None:
        self.calls.append("stop")

    async def apply(self, changes: ChangeSet) -> None:
        self.calls.append("apply")
        self.asked.append(changes)
        await asyncio.sleep(self._seconds)
        if self._failures:
            raise self._failures.pop(0)
        if changes.full:
            self.services.clear()
        for key, change in changes.changes.items():
            if change.new is None:
                self.services.pop(key, None)
            else:
                self.services[key] = change.new
        async with self._progress:
            self.applied.append(changes)
            self._progress.notify_all()

    async def until_applied(self, number: int) -> None:
        """Wait until that many change sets have been applied."""
        async with self._progress:
            await self._progress.wait_for(lambda: len(self.applied) >= number)
