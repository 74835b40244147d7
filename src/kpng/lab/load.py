"""Traffic that goes on in the background while something is changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from .probes import Prober, Reply, Tally, Target
from .processes import LabError

PAUSE_SECONDS = 0.002


class Load:
    """One request after the other, until the end of `load`."""

    def __init__(self) -> None:
        self.tally = Tally()

    async def until(self, met: Callable[[list[Reply]], bool], seconds: float) -> bool:
        """Wait until ``met`` holds for the replies so far; False if it does not within that time."""
        deadline = time.monotonic() + seconds
        while not met(self.tally.replies):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(PAUSE_SECONDS)
        return True

    async def run(self, prober: Prober, target: Target) -> None:
        while True:
            self.tally.replies.append(await prober.send(target))
            await asyncio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def load(prober: Prober, target: Target) -> AsyncIterator[Load]:
    """Send to ``target`` for as long as the block lasts."""
    sending = Load()
    task = asyncio.create_task(sending.run(prober, target))
    try:
        yield sending
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled():
            raise LabError(f"the load on {target} stopped: {task.exception()}")


def since(replies: list[Reply], moment: float, pod: str = "") -> list[Reply]:
    """Answers to requests that were sent after a moment, of one pod or of any."""
    return [reply for reply in replies if reply.at >= moment and reply.ok and pod in ("", reply.pod)]
