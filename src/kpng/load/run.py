"""A load from beginning to end: make the objects, churn them, or remove what an earlier run has made."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import count
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from kpng.model import ZONE_LABEL, UserError

from .churn import Change, Churn, Write
from .objects import INSTANCE, MANAGED_BY, MANAGER, Object, endpoint_slices, namespaces, nodes, services
from .progress import Tally
from .shape import Shape, Site
from .writer import ApiWriter, WriteError

log = logging.getLogger(__name__)

_LAST_FIRST = ("EndpointSlice", "Service", "Node", "Namespace")
_MAX_LATE = 1.0
_WAITING = 4
"""So many changes may wait for each worker, before the rate is lowered."""


class Target(Protocol):
    """Where the objects go."""

    async def write(self, write: Write) -> None: ...

    def together(self) -> AbstractContextManager[None]:
        """For the writes in this block it does not matter when they are done, until it ends."""


class LoadOptions(Struct, frozen=True, kw_only=True):
    """``rate``: changes a second (0: make the objects only). ``seconds``: how long (None: until stopped)."""

    rate: float = 0.0
    seconds: float | None = None
    workers: int = 16


class Loader:
    """Writes a shape to a target, and what happens to it."""

    def __init__(self, target: Target, churn: Churn, tally: Tally, options: LoadOptions) -> None:
        self._target = target
        self._churn = churn
        self._tally = tally
        self._options = options

    async def make(self, *, with_namespaces: bool = True) -> None:
        """Create everything, one kind after the other."""
        shape = self._churn.shape
        slices = shape.services * len(shape.families) * max(-(-shape.endpoints // shape.slice_size), 1)
        with self._target.together():
            if with_namespaces:
                await self._create("namespaces", shape.namespaces, namespaces(shape))
            await self._create("nodes", 0 if shape.sites else shape.nodes, nodes(shape))
            await self._create("services", shape.services, services(shape))
            await self._create("endpoint slices", slices, endpoint_slices(shape))

    async def _create(self, what: str, total: int, things: Iterable[Object]) -> None:
        self._tally.begin(what, total)
        waiting = iter(things)

        async def work() -> None:
            for thing in waiting:  # shared by all workers
                made = await self._write(Write("create", thing))
                self._tally.objects += made
                self._tally.phase.done += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(self._options.workers):
                group.create_task(work())

    async def change(self) -> None:
        """Change things at the rate that is asked for, or as fast as the target takes it.

        What happens to one service stays in order: each is one worker's.
        """
        options, clock = self._options, self._tally.clock
        self._tally.begin("changes", None, options.seconds)
        queues: list[asyncio.Queue[Change | None]] = [asyncio.Queue(_WAITING) for _ in range(options.workers)]
        began = clock()
        async with asyncio.TaskGroup() as group:
            for queue in queues:
                group.create_task(self._carry_out(queue))
            try:
                await self._tell(queues, began)
            finally:
                self._tally.change_seconds = clock() - began
            for queue in queues:
                await queue.put(None)

    async def _tell(self, queues: Sequence[asyncio.Queue[Change | None]], began: float) -> None:
        clock, late = self._tally.clock, 0.0
        for number in count():
            planned = number / self._options.rate
            if self._options.seconds is not None and planned + late >= self._options.seconds:
                return
            if (early := began + planned + late - clock()) > 0:
                await asyncio.sleep(early)
            elif early < -_MAX_LATE:  # the target does not keep up: what was missed is not made up for in a rush
                late -= early
            change = self._churn.next()
            await queues[change.service % len(queues)].put(change)

    async def _carry_out(self, queue: asyncio.Queue[Change | None]) -> None:
        while change := await queue.get():
            written = [await self._write(write) for write in change.writes]
            self._tally.changes += all(written)
            self._tally.phase.done += 1

    async def _write(self, write: Write) -> bool:
        began = self._tally.clock()
        try:
            await self._target.write(write)
        except WriteError as error:
            said = str(error)
            if not self._tally.errors[said]:
                metadata = write.object["metadata"]
                log.warning("%s of %s %s: %s", write.verb, write.object["kind"], metadata["name"], error)
            self._tally.errors[said] += 1
            return False
        self._tally.wrote(self._tally.clock() - began)
        return True


async def with_existing_nodes(writer: ApiWriter, shape: Shape) -> Shape:
    """The shape on the nodes that the cluster has. Raises `UserError` if it has none."""
    sites = tuple(
        [
            Site(node["metadata"]["name"], (node["metadata"].get("labels") or {}).get(ZONE_LABEL, ""))
            async for node in writer.list("Node")
        ]
    )
    if not sites:
        raise UserError(f"{writer.server} has no Nodes for the endpoints to be on; --nodes N makes some")
    return replace(shape, sites=sites)


async def cleanup(writer: ApiWriter, prefix: str, tally: Tally, workers: int = 16) -> None:
    """Delete everything that was made under ``prefix``."""
    selector = f"{MANAGED_BY}={MANAGER},{INSTANCE}={prefix}"
    for kind in _LAST_FIRST:
        found = [thing async for thing in writer.list(kind, selector)]
        tally.begin(f"deleting: {kind}", len(found))
        waiting = iter(found)

        async def work(waiting: Iterable[Object] = waiting) -> None:
            for thing in waiting:
                await writer.write(Write("delete", thing))
                tally.objects += 1
                tally.phase.done += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
