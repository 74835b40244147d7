"""The service ``localv1.Sets``: each watcher gets its node's local state, round by round."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from kpng.localize import LocalView
from kpng.model import ChangeSet
from kpng.store import Store
from kpng.wire.grpc import GrpcError, GrpcStatus
from kpng.wire.ops import RESET, SYNC
from kpng.wire.proto import localv1_pb2 as localv1

from .authorize import Authorize, anybody
from .grpc import ServerCall
from .local_frames import ChangeEncoder, node_frame, round_buffers
from .steps import in_steps, send_all


class LocalSets:
    """Serves any number of watchers from one store. What they have in common is computed and encoded once."""

    def __init__(self, store: Store, authorize: Authorize = anybody) -> None:
        self._store = store
        self._authorize = authorize
        self.encoder = ChangeEncoder()
        self.watchers = 0
        """How many there are now."""

    async def watch(self, call: ServerCall) -> None:
        """Serve one watcher (see localv1.proto for the conversation); cancelled when it goes away."""
        self.watchers += 1
        try:
            await self._converse(call)
        finally:
            self.watchers -= 1

    async def _converse(self, call: ServerCall) -> None:
        view: LocalView | None = None
        while (request := await call.receive()) is not None:
            node = _node_name(request)
            self._authorize(call, node)
            if view is None:
                view = LocalView(self._store, node)
                await call.send([RESET])
            view.follow(node)
            await self._send(call, await view.next())

    async def _send(self, call: ServerCall, changes: ChangeSet) -> None:
        frames = await in_steps(self.encoder.frames(key, change) for key, change in changes.changes.items())
        node = [node_frame(changes.node)] if changes.node and changes.node.name else []
        await send_all(call, [*node, *round_buffers(frames), SYNC])


def _node_name(request: bytes) -> str:
    try:
        return localv1.WatchReq.FromString(request).NodeName
    except DecodeError:
        raise GrpcError(GrpcStatus.INVALID_ARGUMENT, "not a localv1.WatchReq") from None
