"""Changes of local state as single ops, as the Go kpng has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kpng.model import Endpoint, LocalNode, ServiceChange, ServiceKey
from kpng.wire.endpoint import endpoint_to_wire
from kpng.wire.node import local_node_to_wire
from kpng.wire.ops import delete_op, serialize, set_op
from kpng.wire.paths import local_endpoint_path, local_service_path
from kpng.wire.proto import localv1_pb2 as localv1
from kpng.wire.service import service_to_wire

_DIGEST = re.compile(r"[0-9a-f]{16}(?![^:])")


class ChangeFrames(NamedTuple):
    """One service's change, as the pieces that its ops have in each part of a round; b"" where there is none.

    An unnamed endpoint has no pod, so its key is a hash of what it is: changed, it is another one. Deleting
    the old ones before the new ones come keeps a client from having two for the same address.
    """

    path: str
    service_set: bytes
    unnamed_deletes: bytes
    named_sets: bytes
    named_deletes: bytes
    unnamed_sets: bytes
    service_delete: bytes


def round_buffers(frames: Iterable[ChangeFrames]) -> Iterator[bytes]:
    """A round's ops in order: services exist before their endpoints and outlive them; sets ascend by path,
    deletes descend."""
    by_service = sorted(frames, key=lambda change: change.path)
    by_endpoint = sorted(by_service, key=lambda change: f"{change.path}/")
    yield from (change.service_set for change in by_service if change.service_set)
    yield from (change.unnamed_deletes for change in reversed(by_endpoint) if change.unnamed_deletes)
    yield from (change.named_sets for change in by_endpoint if change.named_sets)
    yield from (change.named_deletes for change in reversed(by_endpoint) if change.named_deletes)
    yield from (change.unnamed_sets for change in by_endpoint if change.unnamed_sets)
    yield from (change.service_delete for change in reversed(by_service) if change.service_delete)


def node_frame(node: LocalNode) -> bytes:
    """The op that tells a node what it is."""
    return set_op(localv1.NodesSet, node.name, serialize(local_node_to_wire(node)))


def change_frames(key: ServiceKey, change: ServiceChange) -> ChangeFrames:
    path = local_service_path(key)
    services = localv1.ServicesSet
    sets = [(name, _set_endpoint(key, name, endpoint)) for name, endpoint in change.endpoints_set()]
    deletes = [(name, _delete_endpoint(key, name)) for name in change.endpoints_deleted()]
    new = change.new
    return ChangeFrames(
        path=path,
        service_set=set_op(services, path, serialize(service_to_wire(new.service)))
        if new and change.service_changed
        else b"",
        unnamed_deletes=_join(deletes, named=False),
        named_sets=_join(sets, named=True),
        named_deletes=_join(deletes, named=True),
        unnamed_sets=_join(sets, named=False),
        service_delete=b"" if new else delete_op(services, path),
    )


def _set_endpoint(key: ServiceKey, name: str, endpoint: Endpoint) -> bytes:
    return set_op(localv1.EndpointsSet, local_endpoint_path(key, name), serialize(endpoint_to_wire(endpoint)))


def _delete_endpoint(key: ServiceKey, name: str) -> bytes:
    return delete_op(localv1.EndpointsSet, local_endpoint_path(key, name))


def _join(ops: Iterable[tuple[str, bytes]], *, named: bool) -> bytes:
    return b"".join(op for name, op in ops if bool(_DIGEST.match(name)) != named)
