"""Batches: many changes of local state in one message (localv1.proto, `WatchBatches`).

MessagePack of the model's own structs decodes ten times as fast as one protobuf message for each endpoint, and zlib
finds in a batch the repetitions that single messages hide: 1 MB for what takes 14 MB as single ops.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from itertools import islice

import msgspec
from msgspec import Struct

from kpng.model import Endpoint, LocalNode, Service, ServiceChange, ServiceKey

from .grpc import frame
from .node import local_node_to_wire
from .proto import localv1_pb2 as localv1

LOCAL_WATCH_BATCHES = "/localv1.Sets/WatchBatches"

_COMPRESSED_FROM = 4096
"""Bytes; below, compressing costs both sides more than it saves."""
_BATCH_BYTES = 256 * 1024
"""Before compression. With one delta more than that, a batch is far from gRPC's 4 MiB."""
_MAX_ENDPOINTS = 4096

_ARRAY_32 = struct.Struct(">BI")


class ServiceDelta(Struct, frozen=True, omit_defaults=True):
    """How one service differs. ``service`` None: as before; an endpoint that is None is gone."""

    namespace: str
    name: str
    service: Service | None = None
    gone: bool = False
    endpoints: dict[str, Endpoint | None] = {}

    @property
    def key(self) -> ServiceKey:
        return ServiceKey(self.namespace, self.name)


_encoder = msgspec.msgpack.Encoder()


def encode_deltas(key: ServiceKey, change: ServiceChange) -> list[bytes]:
    """One service's change as items for `services_batches`; several where it has very many endpoints."""
    endpoints: dict[str, Endpoint | None] = dict.fromkeys(change.endpoints_deleted() if change.new else ())
    endpoints.update(change.endpoints_set())
    service = change.new.service if change.new and change.service_changed else None
    gone = change.new is None
    if len(endpoints) <= _MAX_ENDPOINTS:
        return [_encoder.encode(ServiceDelta(*key, service, gone, endpoints))]
    rest = iter(endpoints.items())
    parts = iter(lambda: dict(islice(rest, _MAX_ENDPOINTS)), {})
    return [_encoder.encode(ServiceDelta(*key, service, gone, part)) for part in parts]


def services_batches(items: Iterable[bytes]) -> bytes:
    """Encoded deltas as framed Batches, one after the other."""
    framed, part, size = [], [], 0
    for item in items:
        part.append(item)
        size += len(item)
        if size >= _BATCH_BYTES:
            framed.append(_services_batch(part))
            part, size = [], 0
    if part:
        framed.append(_services_batch(part))
    return b"".join(framed)


def _services_batch(items: list[bytes]) -> bytes:
    data = _ARRAY_32.pack(0xDD, len(items)) + b"".join(items)  # MessagePack's "array 32"
    if len(data) < _COMPRESSED_FROM:
        return _framed(localv1.Batch(Services=data))
    return _framed(localv1.Batch(Services=zlib.compress(data, 1), Compression=localv1.Zlib))


def node_batch(node: LocalNode) -> bytes:
    """A framed Batch that tells a node what it is."""
    return _framed(localv1.Batch(Node=local_node_to_wire(node)))


def sync_batch(instance: str, revision: int) -> bytes:
    """A framed Batch that ends a round."""
    return _framed(localv1.Batch(Sync=localv1.Position(Instance=instance, Revision=revision)))


def _framed(batch: localv1.Batch) -> bytes:
    return frame(batch.SerializeToString())


RESET_BATCH = _framed(localv1.Batch(Reset=True))
