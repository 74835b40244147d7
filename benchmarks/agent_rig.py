"""One node's agent in this process, whole but for HTTP: watch lines -> store -> local view -> runtime -> kernel.

The kube source's reflectors and intakes get the lines that an API server would stream; the nft backend programs the
network namespace of the calling thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import msgspec

from kpng.backends import run_backend
from kpng.backends.nft import NftBackend
from kpng.host.nftables import Nftables
from kpng.kube.convert import Converter, Filters
from kpng.kube.intake import node_intake, service_cidr_intake, service_intake, slice_intake
from kpng.kube.lines import LineSplitter
from kpng.kube.reflector import Reflector
from kpng.kube.resource import resources
from kpng.load import Change, Object, Shape, as_served, nodes, services, watch_line, watch_lines
from kpng.localize import change_sets
from kpng.model import ChangeSet, ProblemLog, ServiceKey
from kpng.store import Store

_CHUNK = 64 << 10
_PATIENCE_SECONDS = 60
_encode = msgspec.json.Encoder().encode
_LIST_ENDS = (
    b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9999999",'
    b'"annotations":{"k8s.io/initial-events-end":"true"}}}}\n'
)


class InitialLists:
    """What the API server streams at first, a file for each kind: so that it is not in the agent's memory."""

    def __init__(self, shape: Shape, slices: Iterable[Object], directory: Path) -> None:
        own = islice(nodes(shape), 1)  # of the Nodes, an agent asks for its own alone
        self._paths = [directory / str(number) for number in range(4)]
        for path, listed in zip(self._paths, (services(shape), slices, own, ()), strict=True):
            with path.open("wb") as file:
                for revision, each in enumerate(listed, 1):
                    file.write(watch_line(b"ADDED", _encode(as_served(each, revision))))
                file.write(_LIST_ENDS)

    def chunks(self, number: int) -> Iterator[bytes]:
        with self._paths[number].open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk


class Clock:
    """Wraps a connection's commits, and adds up how many there were, how long and how large."""

    def __init__(self, connection: Nftables) -> None:
        self.commits = 0
        self.seconds = 0.0
        self.bytes = 0
        self._commit = connection.commit
        connection.commit = self  # type: ignore[method-assign]

    def __call__(self, parts: Sequence[bytes]) -> None:
        start = time.perf_counter()
        self._commit(parts)
        self.seconds += time.perf_counter() - start
        self.commits += bool(parts)
        self.bytes += sum(map(len, parts))


class TimedBackend(NftBackend):
    """Tells when what has been committed."""

    clock: Clock

    def __init__(self) -> None:
        super().__init__()
        self.started, self.loaded = asyncio.Event(), asyncio.Event()
        self.waiting: dict[ServiceKey, float] = {}
        """When the event came that has not been committed yet."""
        self.delays: list[float] = []
        self._idle = asyncio.Event()

    async def start(self) -> None:
        await super().start()
        self.clock = Clock(self.connection)
        self.started.set()

    @property
    def connection(self) -> Nftables:
        assert self._connection is not None
        return self._connection

    async def check(self) -> None:
        """One look of the guard, now."""
        assert self._guard is not None
        await self._guard.check()

    async def apply(self, changes: ChangeSet) -> None:
        await super().apply(changes)
        self.loaded.set()
        now = time.perf_counter()
        committed = self.waiting.keys() & changes.changes.keys()
        self.delays += [now - self.waiting.pop(key) for key in committed]
        if not self.waiting:
            self._idle.set()

    async def settled(self) -> None:
        """Wait until all that was waited for has been committed."""
        if self.waiting:
            self._idle.clear()
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._idle.wait()


class Agent:
    """The kube source's receiving end, and `run_backend` behind it."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self.store = Store()
        self.backend = TimedBackend()
        filters = Filters(node=shape.site(0).name)
        problems, converter = ProblemLog(), Converter(filters, "benchmark")
        intakes = (service_intake, slice_intake, node_intake, service_cidr_intake)
        receivers = [intake(self.store, converter, problems) for intake in intakes]  # type: ignore[operator]
        self._reflectors = [Reflector(*pair) for pair in zip(resources(filters), receivers, strict=True)]

    async def load(self, lists: InitialLists) -> None:
        """Everything that is there at first, as it comes; until it is in the kernel."""
        await asyncio.gather(*(self._list(number, lists) for number in range(len(self._reflectors))))
        await self.backend.loaded.wait()

    async def _list(self, number: int, lists: InitialLists) -> None:
        self._reflectors[number].request()
        splitter = LineSplitter()
        for chunk in lists.chunks(number):
            if lines := splitter.feed(chunk):
                self._reflectors[number].lines(lines)
            await asyncio.sleep(0)

    def lines(self, changes: Iterable[Change]) -> list[tuple[ServiceKey, list[bytes]]]:
        """Changes as the watch tells them, each with the service that it concerns."""
        return [(self._key(change), [line.rstrip() for line in watch_lines([change])]) for change in changes]

    def _key(self, change: Change) -> ServiceKey:
        return ServiceKey(self._shape.namespace(change.service), self._shape.service_name(change.service))

    def hear(self, key: ServiceKey, lines: list[bytes]) -> None:
        """The watch of EndpointSlices tells of a change; its time runs from now on."""
        self.backend.waiting.setdefault(key, time.perf_counter())
        self.tell(lines)

    def tell(self, lines: list[bytes]) -> None:
        """The watch of EndpointSlices tells of what may make no difference to a node."""
        self._reflectors[1].lines(lines)

    async def seconds(self, key: ServiceKey, lines: list[bytes]) -> float:
        """How long it takes from a watch event until it is in the kernel, with nothing else to do."""
        self.hear(key, lines)
        await self.backend.settled()
        return self.backend.delays.pop()


@asynccontextmanager
async def running(shape: Shape) -> AsyncIterator[Agent]:
    agent = Agent(shape)
    task = asyncio.create_task(run_backend(agent.backend, change_sets(agent.store, shape.site(0).name)))
    await agent.backend.started.wait()
    try:
        yield agent
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
