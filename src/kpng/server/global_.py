"""The service ``globalv1.Sets``: the whole cluster's state, for relays."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from kpng.store import EMPTY, Snapshot, Store
from kpng.wire.grpc import GrpcError, GrpcStatus
from kpng.wire.ops import RESET, SYNC
from kpng.wire.proto import globalv1_pb2 as globalv1
from kpng.wire.proto import localv1_pb2 as localv1

from .global_frames import record_change, round_buffers, service_cidr_frames
from .grpc import ServerCall
from .steps import in_steps, send_all


class GlobalSets:
    """Serves any number of watchers from one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.watchers = 0
        """How many there are now."""

    async def watch(self, call: ServerCall) -> None:
        """Serve one watcher (see globalv1.proto for the conversation); cancelled when it goes away."""
        self.watchers += 1
        try:
            await self._converse(call)
        finally:
            self.watchers -= 1

    async def _converse(self, call: ServerCall) -> None:
        seen = EMPTY
        while (request := await call.receive()) is not None:
            if seen is EMPTY:
                await call.send([RESET])
            seen, buffers = await self._next_round(seen, _sets(request))
            await send_all(call, [*buffers, SYNC])

    async def _next_round(self, seen: Snapshot, sets: set[int]) -> tuple[Snapshot, list[bytes]]:
        """Wait until there is something to tell; at first, that there is nothing is told as well."""
        while True:
            newest = await self._store.newer(seen)
            buffers = await self._difference(seen, newest)
            if localv1.GlobalServiceCIDRs in sets:
                buffers += service_cidr_frames(seen.service_cidrs, newest.service_cidrs)
            if buffers or seen is EMPTY:
                return newest, buffers
            seen = newest

    async def _difference(self, old: Snapshot, new: Snapshot) -> list[bytes]:
        keys = new.changed_services(old)
        records = await in_steps(record_change(key, old.services.get(key), new.services.get(key)) for key in keys)
        nodes = {name: new.nodes.get(name) for name in new.changed_nodes(old)}
        return await in_steps(round_buffers(nodes, records))


def _sets(request: bytes) -> set[int]:
    """The sets that the watcher asks for beside those that the Go kpng knows."""
    try:
        return set(globalv1.GlobalWatchReq.FromString(request).Sets)
    except DecodeError:
        raise GrpcError(GrpcStatus.INVALID_ARGUMENT, "not a globalv1.GlobalWatchReq") from None
