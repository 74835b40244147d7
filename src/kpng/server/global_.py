"""The service ``globalv1.Sets``: the whole cluster's state, for relays."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from google.protobuf.message import DecodeError

from kpng.store import EMPTY, Snapshot, Store
from kpng.wire.grpc import GrpcError, GrpcStatus
from kpng.wire.ops import RESET, SYNC
from kpng.wire.proto import globalv1_pb2 as globalv1
from kpng.wire.proto import localv1_pb2 as localv1

from .global_frames import record_change, round_buffers, service_cidr_frames
from .grpc import ServerCall
from .steps import in_steps, send_all
from .watchers import Patience, Watchers


class GlobalSets:
    """Serves any number of watchers from one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watchers = Watchers()

    @property
    def watchers(self) -> int:
        """How many there are now."""
        return len(self._watchers)

    async def watch(self, call: ServerCall) -> None:
        """Serve one watcher (see globalv1.proto for the conversation); cancelled when it goes away."""
        watcher = GlobalWatcher(Patience(call), self._store)
        with self._watchers.including(watcher):
            while (request := await call.receive()) is not None:
                if watcher.is_new:
                    await call.send([RESET])  # now, so that the client sees that somebody is there
                await send_all(call, await watcher.next(_sets(request)), watcher.patience.begin)

    async def close(self) -> None:
        """Stop what runs beside the watches."""
        await self._watchers.close()


class GlobalWatcher:
    """One watcher of the global state. Holds nothing but the snapshot that it was told last."""

    __slots__ = ("_seen", "_store", "patience")

    def __init__(self, patience: Patience, store: Store) -> None:
        self.patience = patience
        self._store = store
        self._seen = EMPTY

    @property
    def is_new(self) -> bool:
        """Whether it is to be told everything, and has to forget what it knows before."""
        return self._seen is EMPTY

    async def next(self, sets: set[int]) -> Iterator[bytes]:
        """The next round, as soon as there is something to tell; the first one also if there is nothing."""
        self.patience.end()
        while True:
            seen, newest = self._seen, await self._store.newer(self._seen)
            buffers = await _difference(seen, newest)
            if localv1.GlobalServiceCIDRs in sets:
                buffers = chain(buffers, service_cidr_frames(seen.service_cidrs, newest.service_cidrs))
            self._seen = newest
            first = next(buffers, None)
            if first is not None or seen is EMPTY:
                self.patience.begin()
                return chain(() if first is None else (first,), buffers, (SYNC,))

    def check(self, now: float) -> None:
        """As for watchers of local state."""
        if self.patience.is_over(now) and self._seen is not self._store.snapshot:
            self._seen = EMPTY


async def _difference(old: Snapshot, new: Snapshot) -> Iterator[bytes]:
    keys = new.changed_services(old)
    records = await in_steps(record_change(key, old.services.get(key), new.services.get(key)) for key in keys)
    nodes = {name: new.nodes.get(name) for name in new.changed_nodes(old)}
    return round_buffers(nodes, records)


def _sets(request: bytes) -> set[int]:
    """The sets that the watcher asks for beside those that the Go kpng knows."""
    try:
        return set(globalv1.GlobalWatchReq.FromString(request).Sets)
    except DecodeError:
        raise GrpcError(GrpcStatus.INVALID_ARGUMENT, "not a globalv1.GlobalWatchReq") from None
