"""Local state by batches: the server's optional method, for clients of ours."""

from __future__ import annotations

from collections.abc import Callable

from kpng.wire.batch import LOCAL_WATCH_BATCHES, RESET_BATCH
from kpng.wire.batch_decode import decode_batch, decode_services
from kpng.wire.grpc import PREFIX_BYTES
from kpng.wire.proto import localv1_pb2 as localv1

from .conversation import Conversation, Sync
from .local_round import LocalRound


class Batched(Conversation[LocalRound]):
    """See ``WatchBatches`` in localv1.proto."""

    path = LOCAL_WATCH_BATCHES
    greeting = RESET_BATCH[PREFIX_BYTES:]

    def __init__(self, node: str, new_round: Callable[[], LocalRound]) -> None:
        self.new_round = new_round
        self._node = node

    def request(self, position: localv1.Position | None) -> bytes:
        return localv1.BatchReq(NodeName=self._node, Position=position).SerializeToString()

    def collect(self, message: bytes, collected: LocalRound) -> Sync | None:
        batch = decode_batch(message)
        if batch.Reset:
            collected.reset()
        collected.add(decode_services(batch))
        if batch.HasField("Node"):
            collected.put_node(batch.Node)
        return Sync(batch.Sync) if batch.HasField("Sync") else None
