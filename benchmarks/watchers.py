"""Many watchers of local state in one process, for `benchmarks.fanout`: each a gRPC connection of its own.

    python -m benchmarks.watchers ADDRESS FIRST COUNT [--batches]

Prints a line of JSON whenever every one of them has had its next round: the moments at which it was there
(CLOCK_MONOTONIC, in seconds). The rounds are not looked at, but for their end.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from collections.abc import Callable

import uvloop

from kpng.client.grpc import ClientCall, GrpcConnection
from kpng.load import Shape
from kpng.wire.batch import LOCAL_WATCH_BATCHES
from kpng.wire.grpc import PREFIX_BYTES
from kpng.wire.ops import LOCAL_WATCH, SYNC
from kpng.wire.proto import localv1_pb2 as localv1

_AT_ONCE = 64
"""So many connect, and take the whole state, at the same time."""


class Rounds:
    """Collects when each watcher had its round, and tells when all have."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._moments: list[float] = []

    def complete(self) -> None:
        """A watcher has a round."""
        self._moments.append(time.monotonic())
        if len(self._moments) == self._count:
            print(json.dumps(self._moments), flush=True)
            self._moments.clear()


async def watch(address: str, node: str, batches: bool, turn: asyncio.Semaphore, rounds: Rounds) -> None:
    request = localv1.WatchReq(NodeName=node).SerializeToString()  # BatchReq has the same first field
    ends = _ends_batches if batches else _ends_ops
    async with turn:
        connection = await GrpcConnection.connect(address, connect_seconds=60)
        call = await connection.open(LOCAL_WATCH_BATCHES if batches else LOCAL_WATCH)
        await _round(call, request, ends)
    rounds.complete()
    while True:
        await _round(call, request, ends)
        rounds.complete()


async def _round(call: ClientCall, request: bytes, ends: Callable[[bytes], bool]) -> None:
    await call.send(request)
    while not ends((await call.receive())[-1]):
        pass


def _ends_ops(message: bytes) -> bool:
    return message == SYNC[PREFIX_BYTES:]


def _ends_batches(message: bytes) -> bool:
    return localv1.Batch.FromString(message).HasField("Sync")


async def main() -> None:
    flags = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    flags.add_argument("address")
    flags.add_argument("first", type=int)
    flags.add_argument("count", type=int)
    flags.add_argument("--batches", action="store_true", help="by the batched method")
    given = flags.parse_args()
    gc.disable()
    shape = Shape(nodes=given.first + given.count)
    turn, rounds = asyncio.Semaphore(_AT_ONCE), Rounds(given.count)
    async with asyncio.TaskGroup() as group:
        for number in range(given.first, given.first + given.count):
            group.create_task(watch(given.address, shape.site(number).name, given.batches, turn, rounds))


if __name__ == "__main__":
    uvloop.run(main())
