"""The service ``localv1.Sets``: each watcher gets its node's local state, round by round."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from kpng.store import Store
from kpng.wire.grpc import GrpcError, GrpcStatus
from kpng.wire.proto import localv1_pb2 as localv1

from .authorize import Authorize, anybody
from .encodings import Batches, Ops
from .grpc import ServerCall
from .publisher import Publisher
from .rounds import Rounds
from .steps import send_all
from .watcher import Watcher
from .watchers import Patience, Watchers


class Asked(NamedTuple):
    """A request for the next round."""

    node: str
    instance: str = ""
    revision: int = 0


class LocalSets:
    """Serves any number of watchers from one store. What they have in common is computed and encoded once."""

    def __init__(self, store: Store, authorize: Authorize = anybody) -> None:
        self.instance = secrets.token_hex(8)
        """Names this server's history of revisions."""
        self.ops = Rounds(Ops())
        self.batches = Rounds(Batches(self.instance))
        self._publisher = Publisher(store)
        self._authorize = authorize
        self._watchers = Watchers()

    @property
    def watchers(self) -> int:
        """How many there are now."""
        return len(self._watchers)

    async def watch(self, call: ServerCall) -> None:
        """Serve one watcher by single ops (see localv1.proto for the conversation); cancelled when it goes away."""
        await self._serve(call, self.ops, _watch_request)

    async def watch_batches(self, call: ServerCall) -> None:
        """Serve one watcher by batches."""
        await self._serve(call, self.batches, _batch_request)

    async def close(self) -> None:
        """Stop what runs beside the watches."""
        await self._watchers.close()
        await self._publisher.close()

    async def _serve(self, call: ServerCall, rounds: Rounds[Any], parse: Callable[[bytes], Asked]) -> None:
        watcher = Watcher(Patience(call), self._publisher, rounds)
        with self._watchers.including(watcher):
            await self._converse(call, watcher, parse)

    async def _converse(self, call: ServerCall, watcher: Watcher, parse: Callable[[bytes], Asked]) -> None:
        started = False
        while (request := await call.receive()) is not None:
            asked = parse(request)
            self._authorize(call, asked.node)
            resumed = not started and self._resume(watcher, asked)
            if not started and not resumed:
                await call.send([watcher.reset()])  # now, so that the client sees that somebody is there
            # who resumes is answered now for the same reason, though there may be nothing to tell
            await send_all(call, await watcher.next(asked.node, at_once=resumed), watcher.patience.begin)
            started = True

    def _resume(self, watcher: Watcher, asked: Asked) -> bool:
        """Let a watcher go on where it was; False where nobody remembers."""
        past = self._publisher.past.get(asked.revision) if asked.instance == self.instance else None
        if past is not None:
            watcher.resume(past, asked.node)
        return past is not None


def _watch_request(request: bytes) -> Asked:
    try:
        return Asked(localv1.WatchReq.FromString(request).NodeName)
    except DecodeError:
        raise GrpcError(GrpcStatus.INVALID_ARGUMENT, "not a localv1.WatchReq") from None


def _batch_request(request: bytes) -> Asked:
    try:
        asked = localv1.BatchReq.FromString(request)
    except DecodeError:
        raise GrpcError(GrpcStatus.INVALID_ARGUMENT, "not a localv1.BatchReq") from None
    return Asked(asked.NodeName, asked.Position.Instance, asked.Position.Revision)
