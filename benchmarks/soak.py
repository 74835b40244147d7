"""Churn with faults, for as long as one likes; then the kernel must hold what a fresh start would write.

    python -m benchmarks.soak --minutes 30 --services 1000 --json FILE

Needs root; works in network namespaces of its own. Two nodes, each with a brain (``kpng kube to-api``) and an agent
(``kpng local to-nft``). While Services are churned at ``--rate``, every few seconds one thing goes wrong: the API
server is killed (its journal brings everything back), the first node's brain or agent is killed, the streams of
both nodes are cut, somebody flushes both nodes' rulesets or deletes kpng's tables. The second node's brain and
agent are never killed: their memory is what tells of leaks. One service has ``--large-endpoints``. A client
behind each node connects to random services all the time; each has ready endpoints at any moment, so each
connection has to be answered.

Figures: ``equal`` (1: both nodes hold exactly what an agent that starts now writes), ``rss_growth_percent_NAME``
(from a third of the time on to the end), ``rss_slope_NAME`` (MiB an hour, fitted over that time), ``faults``,
``changes``, ``requests``, ``failed``, ``compared`` (rules and elements). It fails if the nodes are not equal, if a
request failed, or if a process that was never killed grew by more than ``--max-growth-percent`` (a run of less than
5 minutes only warms up).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path

from benchmarks.cluster_rig import (
    API_PORT,
    BRAIN_PORT,
    KPNG,
    Node,
    Prober,
    Process,
    Rig,
    RigError,
    run_to_end,
    until,
)
from benchmarks.harness import Figures, parser, report, resident_mib
from benchmarks.kernel_state import TABLES, differences, kernel_state
from kpng.lab.netns import CommandError
from kpng.load import Churn, Shape
from kpng.load.objects import INSTANCE
from kpng.load.progress import Tally
from kpng.load.run import Loader, LoadOptions
from kpng.load.writer import ApiWriter

_DOWN_SECONDS = 1.0
_PROBE_PAUSE = 0.02
_SAMPLE_SECONDS = 0.5
_TOLD_SECONDS = 5.0
_QUIET_SECONDS = 30.0
_JUDGED_MINUTES = 5.0
_LARGE_SHARE = 0.05
"""Of the changes, and of the connections, that are to the large service."""


class Side:
    """A node with its brain, its agent and a client that never stops asking."""

    def __init__(self, rig: Rig, shape: Shape, name: str) -> None:
        self.node: Node = rig.node()
        self.prober = Prober(self.node.client)
        self.name = name
        self.requests = 0
        self.failures: Counter[str] = Counter()
        address = f"{self.node.world_address}:{BRAIN_PORT}"
        server = f"http://{self.node.world_address}:{API_PORT}"
        self.brain = rig.process(
            f"brain-{name}", rig.world, *KPNG, "kube", "--server", server, "to-api", "--listen", f"tcp://{address}"
        )
        self.agent = rig.process(
            f"agent-{name}",
            self.node.namespace,
            *KPNG,
            *("local", "--api", address, "to-nft", "--node-name", shape.site(0).name),
        )

    async def start(self, shape: Shape) -> None:
        self.brain.start()
        self.agent.start()
        await until(lambda: self.brain.runs and self.agent.runs, "start", self.agent)
        for service in (0, shape.services - 1):
            await self.prober.first_answer(shape.cluster_ip(service, "IPv4"))

    async def ask(self, address: Callable[[random.Random], str], during: Callable[[], str]) -> None:
        """One connection after the other. ``during``: the last fault."""
        chance = random.Random(self.name)
        while True:
            self.requests += 1
            try:
                await self.prober.ask(address(chance))
            except OSError as error:
                self.failures[f"{during()}: {error}"] += 1
            await asyncio.sleep(_PROBE_PAUSE)


class Memory:
    """The resident memory of each process, over time."""

    def __init__(self, processes: list[Process]) -> None:
        self._processes = processes
        self._samples: dict[str, list[tuple[float, float]]] = {process.name: [] for process in processes}

    def sample(self) -> None:
        now = time.monotonic()
        for process in self._processes:
            if process.runs:
                self._samples[process.name].append((now, resident_mib(process.pid)))

    def latest(self) -> str:
        return ", ".join(f"{name} {samples[-1][1]:.0f} MiB" for name, samples in self._samples.items() if samples)

    def figures(self) -> Figures:
        figures: Figures = {}
        for name, samples in self._samples.items():
            figures |= {f"{figure}_{name}": value for figure, value in growth(samples).items()}
        return figures


def growth(samples: Sequence[tuple[float, float]]) -> Figures:
    """Of (seconds, MiB) since a third of the time: what comes before is warming up. A tenth of the time is averaged
    at each end: the allocator breathes."""
    began, end = samples[0][0], samples[-1][0]
    after = [began + (end - began) * share for share in (1 / 3, 1 / 3 + 0.1, 0.9)]
    late = [(at, mib) for at, mib in samples if at >= after[0]]
    first = statistics.fmean(mib for at, mib in late if at <= after[1])
    last = statistics.fmean(mib for at, mib in late if at >= after[2])
    slope = statistics.linear_regression(*zip(*late, strict=True)).slope
    return {"rss_mib": last, "rss_growth_percent": 100 * (last - first) / first, "rss_slope": slope * 3600}


def faults_in(figures: Figures, names: Sequence[str], minutes: float, most_percent: float) -> list[str]:
    """What must not be. ``names``: the processes that were never killed."""
    found = []
    if not figures["equal"]:
        found.append("the kernel does not hold what a fresh start would write")
    if figures["failed"]:
        found.append(f"{figures['failed']:.0f} requests failed")
    for name in names if minutes >= _JUDGED_MINUTES else ():
        if (percent := figures[f"rss_growth_percent_{name}"]) > most_percent:
            found.append(f"the memory of {name} grew by {percent:.1f} % ({most_percent:g} % are allowed)")
    return found


class Soak:
    """What runs, what is done to it, and what is counted."""

    def __init__(self, rig: Rig, given: argparse.Namespace, folder: Path) -> None:
        self.rig = rig
        self.given = given
        self.shape = Shape(services=given.services, endpoints=given.endpoints, nodes=given.nodes)
        self.large = large_shape(self.shape, given.large_endpoints)
        self.large_address = ""
        self.tally = Tally()
        numbers = f"services={given.services},endpoints={given.endpoints},nodes={given.nodes}"
        self.api = rig.api_server("--journal", str(folder / "journal"), "--shape", numbers)
        self.killed, self.spared = Side(rig, self.shape, "killed"), Side(rig, self.shape, "spared")
        self.sides = (self.killed, self.spared)
        self.memory = Memory([process for side in self.sides for process in (side.brain, side.agent)])
        self.faults: Counter[str] = Counter()
        self.last_fault = "before any fault"
        self.end = time.monotonic()

    async def run(self) -> Figures:
        self.api.start()
        await until(lambda: "serving on" in self.api.log.read_text(), "listen", self.api, 300.0)
        async with self.rig.writer(patience=600.0) as writer:
            loaders = [self._loader(writer, self.shape, 1 - _LARGE_SHARE if self.large else 1)]
            if self.large:
                loaders.append(self._loader(writer, self.large, _LARGE_SHARE))
                await loaders[-1].make()
                self.large_address = await _cluster_ip(writer, self.large)
            for side in self.sides:
                await side.start(self.shape)
            self.end = time.monotonic() + self.given.minutes * 60
            async with self._asking(), asyncio.TaskGroup() as group:
                for loader in loaders:
                    group.create_task(loader.change())
                group.create_task(self._go_wrong())
                group.create_task(self._watch())
        return self._figures() | await self._compared()

    def _loader(self, writer: ApiWriter, shape: Shape, share: float) -> Loader:
        options = LoadOptions(rate=self.given.rate * share, seconds=self.given.minutes * 60, workers=8)
        return Loader(writer, Churn(shape), self.tally, options)

    def _some_address(self, chance: random.Random) -> str:
        if self.large_address and chance.random() < _LARGE_SHARE:
            return self.large_address
        return self.shape.cluster_ip(chance.randrange(self.shape.services), "IPv4")

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """The clients ask for as long as the block lasts."""
        tasks = [asyncio.create_task(side.ask(self._some_address, lambda: self.last_fault)) for side in self.sides]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- while it runs -------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        told = time.monotonic()
        while (now := time.monotonic()) < self.end:
            self.memory.sample()
            for side in self.sides:
                if side is self.spared:
                    side.brain.check()
                    side.agent.check()
            if now - told >= _TOLD_SECONDS:
                told = now
                say(self._line(self.end - now))
            await asyncio.sleep(_SAMPLE_SECONDS)

    def _line(self, left: float) -> str:
        requests, failed = (sum(side.requests for side in self.sides), self._failed)
        return (
            f"{left:.0f} s left: {self.tally.changes:,} changes, {self.faults.total()} faults (last: "
            f"{self.last_fault}), {requests:,} requests, {failed} failed; {self.memory.latest()}"
        )

    @property
    def _failed(self) -> int:
        return sum(side.failures.total() for side in self.sides)

    async def _go_wrong(self) -> None:
        """One fault after the other, and none near the end: what is compared then has to have settled."""
        faults = {
            "API server killed": self._kill_api_server,
            "ruleset flushed": self._flush,
            "agent killed": lambda: self._restart(self.killed.agent),
            "streams cut": self._cut,
            "brain killed": lambda: self._restart(self.killed.brain),
            "tables deleted": self._delete,
        }
        calm = max(self.given.fault_every, 5.0)
        for name in cycle(faults):
            await asyncio.sleep(self.given.fault_every)
            if time.monotonic() > self.end - calm:
                return
            self.last_fault = name
            await faults[name]()
            self.faults[name] += 1

    async def _kill_api_server(self) -> None:
        await self._restart(self.api)

    async def _restart(self, process: Process) -> None:
        process.end()
        await asyncio.sleep(_DOWN_SECONDS)
        process.start()

    async def _flush(self) -> None:
        for side in self.sides:
            side.node.namespace.run("nft", "flush", "ruleset")

    async def _delete(self) -> None:
        for side in self.sides:
            for family, table in TABLES:
                try:
                    side.node.namespace.run("nft", "delete", "table", family, table)
                except CommandError as error:
                    if "not permitted" not in str(error):  # the kernel keeps everybody else out: all the better
                        raise

    async def _cut(self) -> None:
        """The connections between agents, brains and API server end without a word (ss(8), ``-K``)."""
        for side in self.sides:
            side.node.namespace.run("ss", "-K", "dport", "=", str(BRAIN_PORT))
        self.rig.world.run("ss", "-K", "sport", "=", str(API_PORT))

    # -- at the end ----------------------------------------------------------------------------------------

    def _figures(self) -> Figures:
        for side in self.sides:
            for what, count in side.failures.most_common(10):
                say(f"{side.name}: {count} requests failed after {what}")
        return {
            "minutes": self.given.minutes,
            "changes": self.tally.changes,
            "changes_per_s": self.tally.summary().rate,
            "refused": self.tally.errors.total(),
            "faults": self.faults.total(),
            **{f"faults_{name.replace(' ', '_').lower()}": count for name, count in self.faults.items()},
            "requests": sum(side.requests for side in self.sides),
            "failed": self._failed,
            **self.memory.figures(),
        }

    async def _compared(self) -> Figures:
        """Hold both nodes against one whose agent starts now, without a brain."""
        say("comparing with a fresh start")
        fresh = self.rig.node()
        server = ("kube", "--server", f"http://{fresh.world_address}:{API_PORT}")
        sink = ("to-local", "--node-name", self.shape.site(0).name, "to-nft")
        agent = self.rig.process("agent-fresh", fresh.namespace, *KPNG, *server, *sink)
        agent.start()
        prober = Prober(fresh.client)
        await prober.first_answer(self.shape.cluster_ip(self.shape.services - 1, "IPv4"))
        prober.close()
        figures = {f"equal_{side.name}": float(await self._equal(side, fresh)) for side in self.sides}
        figures["compared"] = sum(map(len, kernel_state(fresh.namespace).values()))
        return figures

    async def _equal(self, side: Side, fresh: Node) -> bool:
        """Whether both hold the same, soon."""
        deadline = time.monotonic() + _QUIET_SECONDS
        while found := differences(kernel_state(side.node.namespace), kernel_state(fresh.namespace)):
            if time.monotonic() > deadline:
                for line in found[:20]:
                    say(f"{side.name}: {line}")
                return False
            await asyncio.sleep(0.5)
        return True


def large_shape(shape: Shape, endpoints: int) -> Shape | None:
    """One service more, on the same nodes."""
    if not endpoints:
        return None
    sites = tuple(map(shape.site, range(shape.node_count)))
    return Shape(services=1, endpoints=endpoints, sites=sites, prefix="kpng-large", cluster_ips=False)


async def _cluster_ip(writer: ApiWriter, shape: Shape) -> str:
    """What the API server gave the first service."""
    found = [thing async for thing in writer.list("Service", f"{INSTANCE}={shape.prefix}")]
    address: str = found[0]["spec"]["clusterIP"]
    return address


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


async def run(given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="kpng-soak-") as folder, Rig(Path(folder)) as rig:
        soak = Soak(rig, given, Path(folder))
        try:
            figures = await soak.run()
        finally:
            for side in soak.sides:
                side.prober.close()
    figures["equal"] = min(value for name, value in figures.items() if name.startswith("equal_"))
    report("soak", given, figures)
    spared = [process.name for process in (soak.spared.brain, soak.spared.agent)]
    if found := faults_in(figures, spared, given.minutes, given.max_growth_percent):
        raise RigError("; ".join(found))


def main() -> None:
    flags = parser(__doc__, services=1000, endpoints=5, nodes=50, large_endpoints=1000)
    flags.add_argument("--minutes", type=float, default=30.0, help="how long things change and go wrong")
    flags.add_argument("--rate", type=float, default=20.0, help="changes a second")
    flags.add_argument("--fault-every", type=float, default=10.0, metavar="SECONDS")
    flags.add_argument("--max-growth-percent", type=float, default=15.0, help="of a process that is never killed")
    given = flags.parse_args()
    run_to_end(run(given))


if __name__ == "__main__":
    main()
