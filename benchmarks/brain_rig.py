"""A brain in this process: the kube source's receiving end, its store, the server over it; watchers in others."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from benchmarks.harness import cpu_seconds
from kpng.kube.convert import Converter, Filters
from kpng.kube.intake import node_intake, service_cidr_intake, service_intake, slice_intake
from kpng.kube.reflector import Reflector
from kpng.kube.resource import resources
from kpng.load import Change, Churn, Shape, list_body, watch_lines
from kpng.model import ProblemLog
from kpng.store import Store

_NO_CIDRS = b'{"metadata":{"resourceVersion":"1"},"items":[]}'


class Brain:
    """A store that holds a shape's cluster, and hears of changes as a watch tells them."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.churn = Churn(shape)
        self.store = Store()
        filters, problems = Filters(), ProblemLog()
        converter = Converter(filters, "benchmark")
        intakes = (service_intake, slice_intake, node_intake, service_cidr_intake)
        receivers = [intake(self.store, converter, problems) for intake in intakes]
        self._reflectors = [Reflector(*pair) for pair in zip(resources(filters), receivers, strict=True)]
        bodies = (list_body(shape, kind) for kind in ("Service", "EndpointSlice", "Node"))
        for reflector, body in zip(self._reflectors, (*bodies, _NO_CIDRS), strict=True):
            reflector.page(body)

    def heard(self, changes: Iterable[Change]) -> list[list[bytes]]:
        """Each change as the lines that the watch of EndpointSlices has for it."""
        return [[line.rstrip() for line in watch_lines([change])] for change in changes]

    def hear(self, lines: list[bytes]) -> float:
        """Take in a change; returns when it was committed to the store (CLOCK_MONOTONIC, seconds)."""
        self._reflectors[1].lines(lines)
        return time.monotonic()


class Watchers:
    """Processes of `benchmarks.watchers`, which between them watch as many nodes as asked for."""

    def __init__(self, processes: list[asyncio.subprocess.Process], count: int) -> None:
        self._processes = processes
        self.count = count

    async def rounds(self) -> list[float]:
        """When each watcher had its next round, as soon as all had it (CLOCK_MONOTONIC, seconds)."""
        told = await asyncio.gather(*(self._told(process) for process in self._processes))
        return [moment for moments in told for moment in moments]

    def cpu_seconds(self) -> float:
        """What all of them have used of the processors so far."""
        return sum(cpu_seconds(process.pid) for process in self._processes)

    @staticmethod
    async def _told(process: asyncio.subprocess.Process) -> list[float]:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise SystemExit("a watcher's process has ended")
        moments: list[float] = json.loads(line)
        return moments


@asynccontextmanager
async def watching(
    address: str, count: int, *flags: str, first: int = 0, processes: int = 2
) -> AsyncIterator[Watchers]:
    """Watch the nodes of a shape from the ``first`` one on."""
    share = -(-count // processes)
    started = []
    for start in range(0, count, share):
        numbers = (str(first + start), str(min(share, count - start)))
        started.append(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "benchmarks.watchers",
                address,
                *numbers,
                *flags,
                stdout=asyncio.subprocess.PIPE,
                limit=1 << 24,
            )
        )
    try:
        yield Watchers(started, count)
    finally:
        for process in started:
            if process.returncode is None:
                process.terminate()
        await asyncio.gather(*(process.wait() for process in started))
