"""What the benchmarks share: their flags, their tables, their JSON, and what a process costs.

Each is ``python -m benchmarks.NAME [--services N --endpoints N --watchers N] --json FILE``, prints a table and
writes ``{"name", "params", "figures"}``. Figures are of one machine and one run: what counts are the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")

Figures = dict[str, float]

_TICKS = os.sysconf("SC_CLK_TCK")
_COMMON = ("services", "endpoints", "watchers")


class _Ignored(argparse.Action):
    """A flag that is taken, means nothing, and is not shown."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **options)

    def __call__(self, *_: object) -> None:
        pass


def parser(doc: str | None, **numbers: int) -> argparse.ArgumentParser:
    """The flags of a benchmark: its numbers with their defaults (``services=10_000``), and ``--json``.

    Those that all benchmarks have in common are taken where they mean nothing, too, so that one command runs all.
    """
    flags = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    for name, default in numbers.items():
        flags.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, metavar="N")
    for name in _COMMON:
        if name not in numbers:
            flags.add_argument(f"--{name}", type=int, action=_Ignored)
    flags.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    return flags


def report(
    name: str, given: argparse.Namespace, figures: Figures, peers: Mapping[str, Figures] | None = None
) -> None:
    """Print a table, with a column and a ratio for each peer, and write the JSON if asked for."""
    peers = peers or {}
    print(f"{name:32}{'kpng':>12}" + "".join(f"{peer:>22}{'ratio':>9}" for peer in peers))
    for figure, value in figures.items():
        cells = (_compared(value, measured.get(figure)) for measured in peers.values())
        print(f"{figure:32}{value:>12,.3f}" + "".join(cells))
    if given.json:
        params = {key: value for key, value in vars(given).items() if key != "json"}
        document = {"name": name, "params": params, "figures": figures, "peers": peers}
        given.json.write_text(json.dumps(document, indent=2, default=str) + "\n")


def _compared(value: float, other: float | None) -> str:
    if other is None:
        return f"{'':31}"
    return f"{other:>22,.3f}{other / value:>8.1f}x" if value else f"{other:>22,.3f}{'':>9}"


def spread(name: str, seconds: Sequence[float]) -> Figures:
    """Median and 99th percentile of durations, in milliseconds: ``NAME_p50_ms``, ``NAME_p99_ms``."""
    # inclusive: what was measured is all there is, and of 100 the 99th percentile is not the greatest
    percentiles = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else [*seconds] * 99
    return {f"{name}_p50_ms": percentiles[49] * 1e3, f"{name}_p99_ms": percentiles[98] * 1e3}


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM ends what is in this block as Ctrl-C does: in order and in a word, with nothing left behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit("stopped")


def run_inside(thread: Executor, work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in another thread, which may have entered a namespace. Ctrl-C cancels it."""
    loop = uvloop.new_event_loop()
    task = loop.create_task(work)
    done = thread.submit(_run_loop, loop, task)
    try:
        return done.result()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(task.cancel)
        raise


def _run_loop(loop: asyncio.AbstractEventLoop, task: asyncio.Task[T]) -> T:
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(task)
    finally:
        loop.close()


def resident_mib(pid: int | str = "self") -> float:
    """A process's resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def cpu_seconds(pid: int | str = "self") -> float:
    """What a process has used of the processors so far, user and system (10 ms ticks; proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
