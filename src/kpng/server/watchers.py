"""Who watches. A watcher holds a snapshot while it is busy with a round, which must not be for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from kpng.wire.grpc import GrpcError, GrpcStatus

from .grpc import ServerCall

CHECK_SECONDS = 10.0
FORGET_SECONDS = 60.0
CUT_SECONDS = 300.0


class Patience:
    """With one watcher, while it has a round: since it took the last part of it, however long that is altogether. A
    whole state may take its time over a slow line."""

    __slots__ = ("_busy_since", "_call")

    def __init__(self, call: ServerCall) -> None:
        self._call = call
        self._busy_since: float | None = None

    def begin(self) -> None:
        """It has a round now, or has taken another part of it."""
        self._busy_since = asyncio.get_running_loop().time()

    def end(self) -> None:
        """It asks for the next one."""
        self._busy_since = None

    def is_over(self, now: float) -> bool:
        """Whether the snapshot that it was told of is to be let go. If that has not helped, it is cut off."""
        if self._busy_since is None:
            return False
        seconds = now - self._busy_since
        if seconds >= CUT_SECONDS:
            self._call.fail(GrpcError(GrpcStatus.ABORTED, f"no round taken for {seconds:.0f} s"))
        return seconds >= FORGET_SECONDS


class Checked(Protocol):
    """A watcher."""

    def check(self, now: float) -> None:
        """Let go what it holds, if patience with it is over (``now``: the event loop's time)."""


class Watchers:
    """All watchers of a service, checked now and then."""

    def __init__(self) -> None:
        self._all: set[Checked] = set()
        self._checking: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Checked]:
        return iter(self._all)

    @contextmanager
    def including(self, watcher: Checked) -> Iterator[None]:
        """For the time of this block there is one more."""
        if self._checking is None:
            self._checking = asyncio.create_task(self._check())
        self._all.add(watcher)
        try:
            yield
        finally:
            self._all.discard(watcher)

    async def close(self) -> None:
        """Stop what runs beside the watches."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)

    async def _check(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            for watcher in self._all:
                watcher.check(loop.time())
