"""Ops: what a round consists of, as framed gRPC messages ready to send, and back."""

from __future__ import annotations

from google.protobuf.message import Message

from .grpc import frame
from .proto import localv1_pb2 as localv1

LOCAL_WATCH = "/localv1.Sets/Watch"
GLOBAL_WATCH = "/globalv1.Sets/Watch"

SYNC = frame(localv1.OpItem(Sync=localv1.EmptyOp()).SerializeToString())
RESET = frame(localv1.OpItem(Reset=localv1.EmptyOp()).SerializeToString())


def serialize(message: Message) -> bytes:
    """The same bytes for equal messages, also where they have maps."""
    return message.SerializeToString(deterministic=True)


def set_op(kind: localv1.Set.ValueType, path: str, value: bytes) -> bytes:
    op = localv1.OpItem(Set=localv1.Value(Ref=localv1.Ref(Set=kind, Path=path), Bytes=value))
    return frame(op.SerializeToString())


def delete_op(kind: localv1.Set.ValueType, path: str) -> bytes:
    return frame(localv1.OpItem(Delete=localv1.Ref(Set=kind, Path=path)).SerializeToString())
