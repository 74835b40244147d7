"""From a change in a brain's store to the last of its watchers, each with a gRPC connection of its own.

    python -m benchmarks.fanout --services 10000 --endpoints 10 --watchers 5000 --json FILE
    python -m benchmarks.fanout --sweep 1,10,100,1000,5000 --json FILE
    python -m benchmarks.fanout --peer-kpng PATH_OF_THE_GO_KPNG --json FILE

The brain runs in this process, the watchers in two others on the same machine, and their work is part of the time.
The Go kpng gets a cluster and watchers of its own size (``--peer-services``, ``--peer-watchers``), by a state file
that it looks at each second; kpng is measured with the same, too.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.brain_rig import Brain, Watchers, watching
from benchmarks.harness import Figures, cpu_seconds, parser, report, resident_mib, spread
from kpng.cli.running import GC_THRESHOLDS
from kpng.load import Shape
from kpng.localize import place_of
from kpng.model import Node
from kpng.server import ApiServer
from kpng.server.encodings import Batches, Ops
from kpng.server.rounds import Rounds
from kpng.sinks.file import state_of
from kpng.wire.statefile import encode_state

_SWEPT = ("last_p50_ms", "last_p99_ms", "change_cpu_ms", "first_syncs_s", "rss_mib")
_BETWEEN_SECONDS = 0.3
"""From one change to the next: a cluster at rest."""


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


class Ours:
    """kpng's API server in this process."""

    pid = os.getpid()

    def __init__(self, brain: Brain) -> None:
        self.brain = brain
        self._server = ApiServer(brain.store, global_api=False)

    async def start(self) -> str:
        return await self._server.listen("tcp://127.0.0.1:0")

    async def change(self, lines: list[bytes]) -> float:
        """Commit a change; returns when (CLOCK_MONOTONIC, seconds)."""
        return self.brain.hear(lines)

    async def stop(self) -> None:
        await self._server.close()


class GoKpng:
    """The Go kpng as a brain, with a state file."""

    def __init__(self, brain: Brain, path: Path, directory: Path) -> None:
        self.brain = brain
        self._path = path
        self._state = directory / "state.yaml"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> str:
        self._write()
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        command = (self._path, "file", "-i", self._state, "to-api", "--listen", address)
        quiet = asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)
        await asyncio.sleep(3)
        return address

    async def change(self, lines: list[bytes]) -> float:
        self.brain.hear(lines)
        self._write()
        return time.monotonic()

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def _write(self) -> None:
        state = state_of(self.brain.store.snapshot)
        for name, node in state.nodes.items():  # the Go kpng refuses fields that it does not know
            state.nodes[name] = Node(name=name, zone=node.zone)
        new = self._state.with_suffix(".new")
        new.write_text(encode_state(state))
        new.replace(self._state)


async def measure(server: Ours | GoKpng, watchers: int, changes: int, *flags: str) -> Figures:
    address = await server.start()
    try:
        async with watching(address, 1, *flags, first=watchers, processes=1) as first:
            await first.rounds()  # whoever comes first has the answers worked out and encoded, for all
        gc.collect()
        gc.freeze()
        before, cpu, start = resident_mib(server.pid), cpu_seconds(server.pid), time.monotonic()
        async with watching(address, watchers, *flags) as all_of_them:
            say(f"{watchers} watchers, each taking the whole state at first")
            last = max(await all_of_them.rounds())
            figures = {
                "first_syncs_s": last - start,
                "first_sync_cpu_ms": (cpu_seconds(server.pid) - cpu) / watchers * 1e3,
                "kib_per_watcher": (resident_mib(server.pid) - before) / watchers * 1024,
                "rss_mib": resident_mib(server.pid),
            }
            return figures | await _changes(server, all_of_them, changes)
    finally:
        await server.stop()


async def _changes(server: Ours | GoKpng, watchers: Watchers, times: int) -> Figures:
    say(f"{times} changes of one endpoint")
    brain = server.brain
    replaced = (brain.churn.replace(number % brain.shape.services) for number in range(times))
    lasts, each, cpu, theirs = [], [], 0.0, watchers.cpu_seconds()
    for lines in brain.heard(replaced):
        await asyncio.sleep(_BETWEEN_SECONDS)
        used = cpu_seconds(server.pid)
        committed = await server.change(lines)
        moments = await watchers.rounds()
        cpu += cpu_seconds(server.pid) - used
        lasts.append(max(moments) - committed)
        each += [moment - committed for moment in moments]
    used_by_watchers = watchers.cpu_seconds() - theirs
    say(worst(lasts))
    return (
        spread("last", lasts)
        | spread("any", each)
        | {"change_cpu_ms": cpu / times * 1e3, "watchers_cpu_ms": used_by_watchers / times * 1e3}
    )


def worst(lasts: Sequence[float]) -> str:
    """The three changes that took longest, with their numbers: was it the first one after the start?"""
    numbers = sorted(range(len(lasts)), key=lambda number: lasts[number], reverse=True)[:3]
    return "the worst: " + ", ".join(f"no. {number + 1} {lasts[number] * 1e3:.1f} ms" for number in numbers)


def a_brain(services: int, endpoints: int, nodes: int) -> Brain:
    say(f"a cluster of {services} services with {endpoints} endpoints each, {nodes} nodes")
    return Brain(Shape(services=services, endpoints=endpoints, nodes=nodes))


async def sizes(brain: Brain, encoding: Ops | Batches) -> Figures:
    """What one watcher is sent: the whole state, and one endpoint replaced (to each some 50 bytes of HTTP/2)."""
    rounds: Rounds[Any] = Rounds(encoding)
    before = place_of(brain.store.snapshot, "")
    whole = sum(map(len, await rounds.whole(before)))
    (lines,) = brain.heard([brain.churn.replace(0)])
    brain.hear(lines)
    changed = await rounds.between(before, place_of(brain.store.snapshot, ""))
    return {"whole_kib": whole / 1024, "change_bytes": len(changed)}


async def beside(given: argparse.Namespace) -> tuple[Figures, Figures]:
    """The Go kpng and ours, with what the former can bear."""
    brains = [a_brain(given.peer_services, given.endpoints, given.peer_watchers) for _ in range(2)]
    ours = await measure(Ours(brains[0]), given.peer_watchers, given.peer_changes)
    say("the Go kpng")
    with tempfile.TemporaryDirectory() as directory:
        peer = GoKpng(brains[1], given.peer_kpng, Path(directory))
        return ours, await measure(peer, given.peer_watchers, given.peer_changes)


async def main() -> None:
    flags = parser(__doc__, services=10_000, endpoints=10, watchers=5000, changes=300)
    flags.add_argument("--ops", action="store_true", help="by single ops, as Go clients watch, instead of batches")
    flags.add_argument("--sweep", metavar="N,N", help="also with these numbers of watchers: last_p50_ms for each")
    flags.add_argument("--peer-kpng", type=Path, metavar="PATH", help="the Go kpng's program")
    flags.add_argument("--peer-services", type=int, default=2000, metavar="N")
    flags.add_argument("--peer-watchers", type=int, default=40, metavar="N")
    flags.add_argument("--peer-changes", type=int, default=5, metavar="N")
    given = flags.parse_args()
    gc.set_threshold(*GC_THRESHOLDS)
    sweep = [int(number) for number in given.sweep.split(",")] if given.sweep else []
    method = () if given.ops else ("--batches",)
    brain = a_brain(given.services, given.endpoints, max(given.watchers, *sweep, 1))
    figures = await sizes(brain, Ops() if given.ops else Batches("benchmark"))
    figures |= await measure(Ours(brain), given.watchers, given.changes, *method)
    for watchers in sweep:
        swept = await measure(Ours(brain), watchers, given.changes, *method)
        figures |= {f"{name}_{watchers}": swept[name] for name in _SWEPT}
    peers = {}
    if given.peer_kpng:
        small, peers["Go kpng"] = await beside(given)
        suffix = f"_of_{given.peer_watchers}"
        figures |= {name + suffix: value for name, value in small.items()}
        peers["Go kpng"] = {name + suffix: value for name, value in peers["Go kpng"].items()}
    report("fanout", given, figures, peers)


if __name__ == "__main__":
    uvloop.run(main())
