"""Who may watch what: with mutual TLS, a node can be held to its own local state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kpng.wire.grpc import GrpcError, GrpcStatus

from .grpc import ServerCall

Authorize = Callable[[ServerCall, str], None]
"""Called with the node that a request names; raises `GrpcError` if this client may not watch it."""

_KUBELET_PREFIX = "system:node:"


def anybody(_call: ServerCall, _node: str) -> None:
    """Any client may watch any node, as with the Go kpng."""


def own_node(call: ServerCall, node: str) -> None:
    """The client's certificate must have the node's name as its common name, alone or as in a kubelet's
    (``system:node:NAME``)."""
    name = _common_name(call.peer_certificate)
    if not node or name.removeprefix(_KUBELET_PREFIX) != node:
        raise GrpcError(GrpcStatus.PERMISSION_DENIED, f"the certificate of {name!r} is not that of node {node!r}")


def _common_name(certificate: dict[str, Any] | None) -> str:
    """As `ssl.SSLSocket.getpeercert` spells it: a tuple of relative names, each a tuple of pairs."""
    pairs = [pair for relative in (certificate or {}).get("subject", ()) for pair in relative]
    return next((value for key, value in pairs if key == "commonName"), "")
