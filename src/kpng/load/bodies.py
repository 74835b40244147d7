"""Objects as bytes, the way an API server answers lists and watches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from .churn import Change
from .objects import Object, endpoint_slices, nodes, services
from .served import as_served
from .shape import Shape

Kind = Literal["Service", "EndpointSlice", "Node"]

_encode = msgspec.json.Encoder().encode
_OF_KIND = {"Service": services, "EndpointSlice": endpoint_slices, "Node": nodes}
_API_VERSIONS = {"Service": "v1", "EndpointSlice": "discovery.k8s.io/v1", "Node": "v1"}
_EVENTS = {"create": b"ADDED", "update": b"MODIFIED", "delete": b"DELETED"}


def items(shape: Shape, kind: Kind, *, full: bool = True, revision: int = 1000) -> Iterator[bytes]:
    """The JSON of each object of a kind, with ascending resourceVersions. ``full``: with all that an API server
    sends (managedFields and so on); else only what matters."""
    for offset, thing in enumerate(_OF_KIND[kind](shape)):
        yield _encode(_dressed(thing, revision + offset, full))


def list_body(shape: Shape, kind: Kind, *, full: bool = True, revision: int = 1000) -> bytes:
    """The answer to a list of all objects of a kind, in one page."""
    head = b'{"kind":"%sList","apiVersion":"%s","metadata":{"resourceVersion":"%d"},"items":['
    listed = b",".join(items(shape, kind, full=full, revision=revision))
    return head % (kind.encode(), _API_VERSIONS[kind].encode(), 10_000_000) + listed + b"]}\n"


def watch_line(event: bytes, encoded: bytes) -> bytes:
    """One line of a watch: ``event`` is ADDED, MODIFIED or DELETED."""
    return b'{"type":"%s","object":%s}\n' % (event, encoded)


def watch_lines(changes: Iterable[Change], *, full: bool = True, revision: int = 10_000_001) -> Iterator[bytes]:
    """The lines of a watch of EndpointSlices that hears of ``changes``."""
    for change in changes:
        for write in change.writes:
            yield watch_line(_EVENTS[write.verb], _encode(_dressed(write.object, revision, full)))
            revision += 1


def _dressed(thing: Object, revision: int, full: bool) -> Object:
    if full:
        return as_served(thing, revision)
    return thing | {"metadata": thing["metadata"] | {"resourceVersion": str(revision)}}
