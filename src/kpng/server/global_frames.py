"""Global state as bytes: each service record is encoded once, whoever watches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

from kpng.model import EndpointInfo, Node, ServiceKey
from kpng.store import ServiceRecord
from kpng.wire.endpoint import endpoint_info_to_wire
from kpng.wire.node import node_to_wire
from kpng.wire.ops import delete_op, serialize, set_op
from kpng.wire.paths import GlobalPath
from kpng.wire.proto import globalv1_pb2 as globalv1
from kpng.wire.proto import localv1_pb2 as localv1
from kpng.wire.service import service_to_wire

_DERIVED = "global frames"
_JOINED_BYTES = 64 * 1024

Source = tuple[str, EndpointInfo]
"""An endpoint and the name of the source it is from."""


class EndpointFrames(NamedTuple):
    """One endpoint's rows: the one of its service and the one of its source."""

    paths: tuple[str, str]
    sets: bytes

    @property
    def deletes(self) -> bytes:
        return b"".join(delete_op(localv1.GlobalEndpointInfos, path) for path in reversed(self.paths))


class RecordFrames(NamedTuple):
    """One service record; ``service`` is b"" where only endpoints have been seen."""

    service: bytes
    endpoints: Mapping[Source, EndpointFrames]


NOTHING = RecordFrames(b"", {})


class RecordChange(NamedTuple):
    """What differs between two versions of a record, as ops; endpoints in path order, their deletes reversed.

    Nothing of it is made before it is asked for: a reader of the whole state may be slow.
    """

    key: ServiceKey
    before: RecordFrames
    after: RecordFrames

    @property
    def service_set(self) -> bytes:
        return self.after.service if self.after.service != self.before.service else b""

    @property
    def endpoint_sets(self) -> list[bytes]:
        return [frames.sets for frames in sorted(_missing(self.after, self.before))]

    @property
    def endpoint_deletes(self) -> list[bytes]:
        return [frames.deletes for frames in sorted(_missing(self.before, self.after), reverse=True)]

    @property
    def service_delete(self) -> bytes:
        if self.after.service or not self.before.service:
            return b""
        return delete_op(localv1.GlobalServiceInfos, str(GlobalPath(*self.key)))


def _missing(here: RecordFrames, there: RecordFrames) -> Iterable[EndpointFrames]:
    """Endpoints that are only here."""
    if not there.endpoints:
        return here.endpoints.values()
    return [frames for source, frames in here.endpoints.items() if source not in there.endpoints]


def record_change(key: ServiceKey, old: ServiceRecord | None, new: ServiceRecord | None) -> RecordChange:
    before = record_frames(old, None)
    return RecordChange(key, before, record_frames(new, before))


def record_frames(record: ServiceRecord | None, before: RecordFrames | None) -> RecordFrames:
    """A record's frames, kept on the record; what an earlier version of it has in common is taken over."""
    if record is None:
        return NOTHING
    made = record.derived.get(_DERIVED)
    if not isinstance(made, RecordFrames):
        made = record.derived[_DERIVED] = _encode_record(record, before or NOTHING)
    return made


def _encode_record(record: ServiceRecord, before: RecordFrames) -> RecordFrames:
    endpoints = {
        (source, info): before.endpoints.get((source, info)) or _encode_endpoint(record.key, source, info)
        for source, info in record.endpoints()
    }
    return RecordFrames(_encode_service(record), endpoints)


def _encode_service(record: ServiceRecord) -> bytes:
    if record.service is None:
        return b""
    message = globalv1.ServiceInfo(Service=service_to_wire(record.service))
    message.Hash = int(_digest(serialize(message)), 16)
    return set_op(localv1.GlobalServiceInfos, str(GlobalPath(*record.key)), serialize(message))


def _encode_endpoint(key: ServiceKey, source: str, info: EndpointInfo) -> EndpointFrames:
    """Both rows of the Go kpng's store are sent, its own and the index by source: a Go relay puts what it gets
    into its store as it is, and looks there for both."""
    message = endpoint_info_to_wire(info)
    message.Namespace, message.ServiceName, message.SourceName = *key, source
    # the hash is over all there is, hints and pod name too: what it leaves out could change unnoticed
    digest = _digest(serialize(message))
    message.Hash = int(digest, 16)
    value = serialize(message)
    paths = (str(GlobalPath(*key, source, digest)), str(GlobalPath(key.namespace, "", source, digest)))
    return EndpointFrames(paths, b"".join(set_op(localv1.GlobalEndpointInfos, path, value) for path in paths))


def node_frames(name: str, node: Node | None) -> bytes:
    """The op that sets a Node, or deletes it."""
    path = str(GlobalPath("", name))
    if node is None:
        return delete_op(localv1.GlobalNodeInfos, path)
    message = globalv1.NodeInfo(Node=node_to_wire(node))
    message.Hash = int(_digest(serialize(message)), 16)
    return set_op(localv1.GlobalNodeInfos, path, serialize(message))


def service_cidr_frames(old: Mapping[str, tuple[str, ...]], new: Mapping[str, tuple[str, ...]]) -> Iterator[bytes]:
    """The ops for ServiceCIDRs that differ."""
    if old is new:
        return
    for name in sorted({*old, *new}):
        path, cidrs = str(GlobalPath("", name)), new.get(name)
        if cidrs is None:
            yield delete_op(localv1.GlobalServiceCIDRs, path)
        elif cidrs != old.get(name):
            value = serialize(globalv1.ServiceCIDR(CIDRs=cidrs))
            yield set_op(localv1.GlobalServiceCIDRs, path, value)


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()


def round_buffers(nodes: dict[str, Node | None], records: Sequence[RecordChange]) -> Iterator[bytes]:
    """A round's ops in order: what others refer to is set before them and deleted after them."""
    known = [change for change in reversed(records) if change.before is not NOTHING]
    yield from (node_frames(name, node) for name, node in nodes.items() if node is not None)
    yield from filter(None, (change.service_set for change in records))
    yield from _joined(chain.from_iterable(change.endpoint_sets for change in records))
    yield from _joined(chain.from_iterable(change.endpoint_deletes for change in known))
    yield from filter(None, (change.service_delete for change in known))
    yield from (node_frames(name, None) for name in reversed(nodes) if nodes[name] is None)


def _joined(ops: Iterable[bytes]) -> Iterator[bytes]:
    """Small ones together: each buffer has its cost."""
    part: list[bytes] = []
    size = 0
    for op in ops:
        part.append(op)
        size += len(op)
        if size >= _JOINED_BYTES:
            yield b"".join(part)
            part, size = [], 0
    if part:
        yield b"".join(part)
