"""How long a node waits for its whole local state: from connecting until it is there.

    python -m benchmarks.initial_sync --services 10000 --endpoints 10 --json FILE

``plain``: single ops, to a client that only counts them (as the Go kpng would take them in, but for decoding);
``batched``: to our own client, until it has the change set that a backend gets. The answers have been made before,
for another node: that took ``first_s``. The client is another process on the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import time
from contextlib import aclosing

import uvloop

from benchmarks.brain_rig import Brain
from benchmarks.harness import Figures, cpu_seconds, parser, report
from kpng.cli.running import GC_THRESHOLDS
from kpng.client import watch_local
from kpng.client.grpc import GrpcConnection
from kpng.load import Shape
from kpng.server import ApiServer
from kpng.wire.grpc import PREFIX_BYTES
from kpng.wire.ops import LOCAL_WATCH, SYNC
from kpng.wire.proto import localv1_pb2 as localv1

_METHODS = ("plain", "batched")


async def take_plain(address: str, node: str) -> int:
    """Take the whole state op by op; returns how many Set there were."""
    connection = await GrpcConnection.connect(address)
    call = await connection.open(LOCAL_WATCH)
    await call.send(localv1.WatchReq(NodeName=node).SerializeToString())
    count = 0
    while True:
        messages = await call.receive()
        count += len(messages)
        if messages[-1] == SYNC[PREFIX_BYTES:]:
            return count - 3  # without Reset, the Node and Sync


async def take_batched(address: str, node: str) -> int:
    """Take the whole state as an agent does; returns how many services and endpoints there are."""
    async with aclosing(watch_local(address, node)) as changes:
        first = await anext(changes)
    return sum(1 + len(change.new.endpoints) for change in first.changes.values() if change.new)


async def client(address: str, node: str, method: str) -> None:
    """The other process: prints the seconds it took."""
    gc.set_threshold(*GC_THRESHOLDS)
    start = time.perf_counter()
    count = await (take_plain if method == "plain" else take_batched)(address, node)
    print(time.perf_counter() - start, count)


async def measure(brain: Brain, address: str, times: int) -> Figures:
    shape = brain.shape
    items = shape.services * (1 + shape.endpoints)
    figures: Figures = {"items": items}
    for method in _METHODS:
        figures[f"{method}_first_s"] = await _seconds(address, shape.site(0).name, method, items)
        gc.collect()
        gc.freeze()
        cpu = cpu_seconds()
        taken = [await _seconds(address, shape.site(n).name, method, items) for n in range(1, times + 1)]
        figures |= {
            f"{method}_items_per_s": items / statistics.median(taken),
            f"{method}_s": statistics.median(taken),
            f"{method}_cpu_ms": (cpu_seconds() - cpu) / times * 1e3,
        }
    return figures


async def _seconds(address: str, node: str, method: str, items: int) -> float:
    print(f"  {method}: {node}", file=sys.stderr, flush=True)
    command = (sys.executable, "-m", "benchmarks.initial_sync", "--take", address, node, method)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    seconds, count = out.split()
    if int(count) < items:
        raise SystemExit(f"{method}: {int(count)} items came, not {items}")
    return float(seconds)


async def main(given: argparse.Namespace) -> None:
    gc.set_threshold(*GC_THRESHOLDS)
    shape = Shape(services=given.services, endpoints=given.endpoints, nodes=given.watchers)
    print(f"  a cluster of {given.services} services, {shape.nodes} nodes", file=sys.stderr, flush=True)
    brain = Brain(shape)
    server = ApiServer(brain.store)
    try:
        figures = await measure(brain, await server.listen("tcp://127.0.0.1:0"), given.times)
    finally:
        await server.close()
    report("initial_sync", given, figures)


if __name__ == "__main__":
    flags = parser(__doc__, services=10_000, endpoints=10, watchers=5000, times=9)
    flags.add_argument("--take", nargs=3, help=argparse.SUPPRESS)
    given = flags.parse_args()
    uvloop.run(client(*given.take) if given.take else main(given))
