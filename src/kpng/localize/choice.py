"""Endpoint choice: which endpoints of one service port one node may use. Pure functions.

The rules are kube-proxy's (KEP-1669 terminating endpoints, KEP-2433 and KEP-4444 zone hints, KEP-3015 node
hints, KEP-2086 and KEP-1669 traffic policies): docs/semantics.md tells them in words. All of it works on one
*candidate list*: the endpoints of one family that carry the port.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from kpng.model import EndpointInfo

Candidates = Sequence[EndpointInfo]


class Choice(Struct, frozen=True):
    """What a node may use, for each traffic policy."""

    cluster: tuple[EndpointInfo, ...]
    local: tuple[EndpointInfo, ...]

    @property
    def anywhere(self) -> bool:
        """Whether any endpoint in the cluster is usable (hints never leave a node without one): if not, traffic is
        rejected; if so, and the policy's list is empty, it is dropped."""
        return bool(self.cluster)


def choose(candidates: Candidates, node: str, zone: str) -> Choice:
    """Choose for a node. An unknown node (``""``) hosts nothing; an unknown zone (``""``) uses no zone hints."""
    ready = [e for e in candidates if e.ready]
    cluster = _prefer_topology(ready, node, zone) if ready else _terminating(candidates)
    here = [e for e in candidates if e.node == node] if node else []
    local = [e for e in here if e.ready] or _terminating(here)
    return Choice(tuple(cluster), tuple(local))


def is_usable(endpoint: EndpointInfo) -> bool:
    """Whether it may get new connections, at least where no other may."""
    return endpoint.ready or _is_terminating(endpoint)


def _terminating(candidates: Candidates) -> list[EndpointInfo]:
    """The fallback where nothing is ready (KEP-1669)."""
    return [e for e in candidates if _is_terminating(e)]


def _is_terminating(endpoint: EndpointInfo) -> bool:
    """Whether it still serves while it terminates."""
    return endpoint.serving and endpoint.terminating


def _prefer_topology(ready: Candidates, node: str, zone: str) -> Candidates:
    """Follow hints only if every ready endpoint has them and one names us; else use all (never none)."""
    return _hinted(ready, lambda e: e.node_hints, node) or _hinted(ready, lambda e: e.zone_hints, zone) or ready


def _hinted(ready: Candidates, hints: Callable[[EndpointInfo], tuple[str, ...]], name: str) -> Candidates:
    if not name or not all(hints(e) for e in ready):
        return ()
    return [e for e in ready if name in hints(e)]
