"""How far a load has come: counted while it runs, told every second and at the end."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from msgspec import Struct

from .histogram import Histogram

_PERIOD = 1.0


class Phase(Struct):
    """One thing that is being done: ``total`` many of ``what``, None if there is no end but a time or Ctrl-C."""

    what: str
    total: int | None
    began: float
    done: int = 0
    until: float | None = None

    def line(self, now: float, errors: int = 0) -> str:
        """For people, as "services 300/1,000 (30 %), 412/s, 2 s left"."""
        rate = self.done / max(now - self.began, 1e-9)
        share = f"/{self.total:,} ({100 * self.done // max(self.total, 1)} %)" if self.total is not None else ""
        left = self._left(now, rate)
        parts = [f"{self.what} {self.done:,}{share}", f"{rate:,.0f}/s"]
        parts += [f"{left:.0f} s left"] if left is not None else []
        parts += [f"{errors:,} errors"] if errors else []
        return ", ".join(parts)

    def _left(self, now: float, rate: float) -> float | None:
        if self.until is not None:
            return max(self.until - now, 0.0)
        return (self.total - self.done) / rate if self.total is not None and rate else None


class Summary(NamedTuple):
    """What came of it. Times are of single writes, in milliseconds; ``rate``: changes a second."""

    objects: int
    changes: int
    rate: float
    writes: int
    errors: int
    p50_ms: float
    p99_ms: float
    seconds: float

    def text(self) -> str:
        return (
            f"{self.objects:,} objects, {self.changes:,} changes ({self.rate:,.1f}/s), {self.writes:,} writes"
            f" ({self.errors:,} errors) in {self.seconds:,.1f} s; a write took {self.p50_ms:.1f} ms"
            f" (p99 {self.p99_ms:.1f} ms)"
        )


class Tally:
    """The counts of a run."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.began = clock()
        self.phase = Phase("starting", None, self.began)
        self.objects = 0
        self.changes = 0
        self.change_seconds = 0.0
        self.errors: Counter[str] = Counter()
        self.seconds = Histogram()

    def begin(self, what: str, total: int | None = None, seconds: float | None = None) -> None:
        now = self.clock()
        self.phase = Phase(what, total, now, until=None if seconds is None else now + seconds)

    def wrote(self, seconds: float) -> None:
        self.seconds.add(seconds)

    def line(self) -> str:
        return self.phase.line(self.clock(), self.errors.total())

    def summary(self) -> Summary:
        return Summary(
            self.objects,
            self.changes,
            self.changes / self.change_seconds if self.change_seconds else 0.0,
            len(self.seconds),
            self.errors.total(),
            self.seconds.quantile(0.5) * 1e3,
            self.seconds.quantile(0.99) * 1e3,
            self.clock() - self.began,
        )


@asynccontextmanager
async def told(tally: Tally, period: float = _PERIOD) -> AsyncIterator[None]:
    """Tell of it on standard error, every second, while the block lasts."""

    async def tell() -> None:
        while True:
            await asyncio.sleep(period)
            _print(tally.line())

    task = asyncio.create_task(tell())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if sys.stderr.isatty():
            print(file=sys.stderr)


def _print(line: str) -> None:
    if sys.stderr.isatty():  # the same line again and again
        print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)
