"""What a test can do to the server: slow it down, halt it, make it refuse, cut its watches."""

from __future__ import annotations

import asyncio

from kpng.lab.apiserver import errors


class Faults:
    """Set ``delay`` to seconds every request waits first; the rest are methods."""

    def __init__(self) -> None:
        self.delay = 0.0
        self._running = asyncio.Event()
        self._running.set()
        self._refusals: list[errors.ApiError] = []
        self._watches: set[asyncio.BaseTransport] = set()
        self._watch_began = asyncio.Event()

    def pause(self) -> None:
        """From now on nothing is answered and no watch hears anything; connections stay open."""
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    def refuse(self, code: int, count: int = 1) -> None:
        """Answer the next ``count`` requests with ``code``."""
        reason = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}.get(code, "Unknown")
        self._refusals += [errors.ApiError(code, reason, "refused by a fault of the lab")] * count

    def drop_watches(self) -> None:
        """Cut the connections of all watches, without a word, as a died server or middlebox does."""
        for transport in list(self._watches):
            if isinstance(transport, asyncio.Transport):
                transport.abort()

    async def before_request(self) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        await self._running.wait()
        if self._refusals:
            raise self._refusals.pop(0)

    async def before_event(self) -> None:
        await self._running.wait()

    def watch_began(self, transport: asyncio.BaseTransport) -> None:
        self._watches.add(transport)
        self._watch_began.set()

    def watch_ended(self, transport: asyncio.BaseTransport) -> None:
        self._watches.discard(transport)

    @property
    def watches(self) -> int:
        """How many watches run now."""
        return len(self._watches)

    async def wait_for_watches(self, count: int = 1) -> None:
        """Return when at least ``count`` watches run."""
        while len(self._watches) < count:
            self._watch_began.clear()
            await self._watch_began.wait()
