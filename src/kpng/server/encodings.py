"""The two ways in which local state is told: single ops for any client, batches for our own."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Protocol, TypeVar

from kpng.model import LocalNode, ServiceChange, ServiceKey
from kpng.wire.batch import RESET_BATCH, encode_deltas, node_batch, services_batches, sync_batch
from kpng.wire.ops import RESET, SYNC

from .local_frames import ChangeFrames, change_frames, node_frame, round_buffers

T = TypeVar("T")


class Encoding(Protocol[T]):
    """Makes framed gRPC messages. A round is a reset (where it is the whole state), the node, joined changes (any
    number of times) and a sync."""

    reset: bytes

    def node(self, node: LocalNode) -> bytes:
        """The node that asked."""
        ...

    def change(self, key: ServiceKey, change: ServiceChange) -> T:
        """How one service differs, in a form that can be kept and joined again and again."""
        ...

    def join(self, changes: Iterable[T]) -> bytes:
        """Changes as they are sent."""
        ...

    def sync(self, revision: int) -> bytes:
        """The end of a round."""
        ...


class Ops:
    """One op a message (``localv1.Sets/Watch``)."""

    reset = RESET

    def node(self, node: LocalNode) -> bytes:
        return node_frame(node)

    def change(self, key: ServiceKey, change: ServiceChange) -> ChangeFrames:
        return change_frames(key, change)

    def join(self, changes: Iterable[ChangeFrames]) -> bytes:
        return b"".join(round_buffers(changes))

    def sync(self, revision: int) -> bytes:  # noqa: ARG002 - the protocol of the Go kpng knows no revisions
        return SYNC


class Batches:
    """Many changes a message (``localv1.Sets/WatchBatches``)."""

    reset = RESET_BATCH

    def __init__(self, instance: str) -> None:
        self._instance = instance

    def node(self, node: LocalNode) -> bytes:
        return node_batch(node)

    def change(self, key: ServiceKey, change: ServiceChange) -> list[bytes]:
        return encode_deltas(key, change)

    def join(self, changes: Iterable[list[bytes]]) -> bytes:
        return services_batches(chain.from_iterable(changes))

    def sync(self, revision: int) -> bytes:
        return sync_batch(self._instance, revision)
