"""How rounds are asked for and told, in one method of the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from google.protobuf.message import DecodeError

from kpng.wire.grpc import PREFIX_BYTES, GrpcError, GrpcStatus
from kpng.wire.ops import RESET
from kpng.wire.proto import localv1_pb2 as localv1

R = TypeVar("R")


class Sync(NamedTuple):
    """The end of a round, and its place in the server's history where that is told."""

    position: localv1.Position | None = None


class Conversation(Protocol[R]):
    """One method: what is sent and how the answers are collected."""

    path: str
    greeting: bytes
    """The message that begins a whole state: it shows that somebody is there, but not that there is anything."""
    new_round: Callable[[], R]

    def request(self, position: localv1.Position | None) -> bytes:
        """Asks for the next round, or in a call's first request for all since a position."""

    def collect(self, message: bytes, collected: R) -> Sync | None:
        """Add one message to a round; whether it ends it. Raises `GrpcError` or `BatchError` on nonsense."""


class Round(Protocol):
    """Collects single ops; acted on when the round is complete, dropped when it never is."""

    def reset(self) -> None: ...
    def set(self, kind: int, path: str, value: bytes) -> None: ...
    def delete(self, kind: int, path: str) -> None: ...


S = TypeVar("S", bound=Round)


class Plain(Conversation[S]):
    """Single ops: the methods of the Go kpng."""

    greeting = RESET[PREFIX_BYTES:]

    def __init__(self, path: str, request: bytes, new_round: Callable[[], S]) -> None:
        self.path = path
        self.new_round = new_round
        self._request = request

    def request(self, position: localv1.Position | None) -> bytes:  # noqa: ARG002 -- it always begins anew
        return self._request

    def collect(self, message: bytes, collected: S) -> Sync | None:
        """Ops of a kind yet to be invented are passed over."""
        try:
            op = localv1.OpItem.FromString(message)
        except DecodeError:
            raise GrpcError(GrpcStatus.INTERNAL, "the server sent something that is no localv1.OpItem") from None
        kind = op.WhichOneof("Op")
        if kind == "Set":
            collected.set(op.Set.Ref.Set, op.Set.Ref.Path, op.Set.Bytes)
        elif kind == "Delete":
            collected.delete(op.Delete.Set, op.Delete.Path)
        elif kind == "Reset":
            collected.reset()
        return Sync() if kind == "Sync" else None
