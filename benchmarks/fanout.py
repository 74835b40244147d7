"""From a change in a brain's store to the last of its watchers, each with a gRPC connection of its own.

    python -m benchmarks.fanout --services 10000 --endpoints 10 --watchers 5000 --json FILE
    python -m benchmarks.fanout --sweep 1,10,100,1000,5000 --json FILE

The brain runs in this process, the watchers in two others on the same machine, and their work is part of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time

import uvloop

from benchmarks.brain_rig import Brain, Watchers, watching
from benchmarks.harness import Figures, cpu_seconds, parser, report, resident_mib, spread
from kpng.cli.running import GC_THRESHOLDS
from kpng.load import Churn, Shape
from kpng.server import ApiServer

_BETWEEN_SECONDS = 0.05
"""From one change to the next: a cluster at rest."""


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


async def measure(brain: Brain, churn: Churn, watchers: int, given: argparse.Namespace) -> Figures:
    server = ApiServer(brain.store, global_api=False)
    address = await server.listen("tcp://127.0.0.1:0")
    flags = ("--batches",) if given.batches else ()
    try:
        async with watching(address, 1, *flags, first=watchers, processes=1) as first:
            await first.rounds()  # whoever comes first has the answers worked out and encoded, for all
        gc.collect()
        gc.freeze()
        before, cpu, start = resident_mib(), cpu_seconds(), time.monotonic()
        async with watching(address, watchers, *flags) as all_of_them:
            say(f"{watchers} watchers, each taking the whole state at first")
            last = max(await all_of_them.rounds())
            figures = {
                "first_syncs_s": last - start,
                "first_sync_cpu_ms": (cpu_seconds() - cpu) / watchers * 1e3,
                "kib_per_watcher": (resident_mib() - before) / watchers * 1024,
                "rss_mib": resident_mib(),
            }
            return figures | await _changes(brain, churn, all_of_them, given.changes)
    finally:
        await server.close()


async def _changes(brain: Brain, churn: Churn, watchers: Watchers, times: int) -> Figures:
    say(f"{times} changes of one endpoint")
    lasts, each, cpu = [], [], 0.0
    theirs = watchers.cpu_seconds()
    for lines in brain.heard(churn.replace(number % churn.shape.services) for number in range(times)):
        await asyncio.sleep(_BETWEEN_SECONDS)
        used = cpu_seconds()
        committed = brain.hear(lines)
        moments = await watchers.rounds()
        cpu += cpu_seconds() - used
        lasts.append(max(moments) - committed)
        each += [moment - committed for moment in moments]
    return spread("last", lasts) | spread("any", each) | {
        "change_cpu_ms": cpu / times * 1e3,
        "watchers_cpu_ms": (watchers.cpu_seconds() - theirs) / times * 1e3,
    }


async def main() -> None:
    flags = parser(__doc__, services=10_000, endpoints=10, watchers=5000, changes=100)
    flags.add_argument("--batches", action="store_true", help="by the batched method of our own clients")
    flags.add_argument("--sweep", metavar="N,N", help="also with these numbers of watchers: last_p50_ms for each")
    given = flags.parse_args()
    gc.set_threshold(*GC_THRESHOLDS)
    sweep = [int(number) for number in given.sweep.split(",")] if given.sweep else []
    shape = Shape(services=given.services, endpoints=given.endpoints, nodes=max(given.watchers, *sweep, 1))
    say(f"a cluster of {given.services} services with {given.endpoints} endpoints each, {shape.nodes} nodes")
    brain = Brain(shape)
    churn = Churn(shape)
    figures = await measure(brain, churn, given.watchers, given)
    for watchers in sweep:
        swept = await measure(brain, churn, watchers, given)
        figures |= {f"{name}_{watchers}": swept[name] for name in ("last_p50_ms", "last_p99_ms", "change_cpu_ms")}
    report("fanout", given, figures)


if __name__ == "__main__":
    uvloop.run(main())
