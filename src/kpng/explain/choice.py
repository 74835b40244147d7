"""Why these endpoints, and why not the others (semantics B, E12).

Local state tells what was chosen; only the global state tells what it was chosen from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum

from msgspec import Struct

from kpng.model import EndpointInfo, match_port

from .explanation import LeftOut, Target
from .frontends import Frontend
from .packet import Packet
from .routes import Route
from .state import NodeState


class Basis(Enum):
    """What decided among the endpoints."""

    READY = "ready"
    TERMINATING = "nothing is ready; these still serve while they terminate (KEP-1669)"
    NODE_HINTS = "ready, and hinted for this node (KEP-3015)"
    ZONE_HINTS = "ready, and hinted for this node's zone (KEP-2433)"
    HERE = "ready, and on this node"
    TERMINATING_HERE = "on this node nothing is ready; these still serve while they terminate (KEP-1669)"


class _Candidate(Struct, frozen=True):
    """An endpoint of the cluster in the packet's family. ``port`` is 0 where it does not have the service's."""

    info: EndpointInfo
    address: str
    port: int


def basis_of(
    frontend: Frontend, route: Route, packet: Packet, targets: Sequence[Target], state: NodeState
) -> Basis:
    """What the targets have that others have not."""
    terminating = any(target.terminating for target in targets)
    if route.is_local:
        return Basis.TERMINATING_HERE if terminating else Basis.HERE
    if terminating:
        return Basis.TERMINATING
    return _hinted(_ready(_candidates(frontend, packet, state)), state)


def choice_text(basis: Basis, route: Route, state: NodeState) -> str:
    text = basis.value
    if basis is Basis.ZONE_HINTS and state.cluster:
        text = text.replace("zone", f"zone {state.cluster.zone}", 1)
    elif basis is Basis.READY and state.cluster is None:
        text += ", as the kpng API chose them for this node"
    if route.scope == "short_circuit":
        text += "; what begins in the cluster uses endpoints as with the policy Cluster"
    return text


def left_out(
    frontend: Frontend, route: Route, packet: Packet, targets: Sequence[Target], state: NodeState
) -> tuple[LeftOut, ...] | None:
    """The endpoints in the packet's family that it cannot be sent to; None where they are not known."""
    if state.cluster is None:
        return None
    used = {(target.address, target.port) for target in targets}
    candidates = _candidates(frontend, packet, state)
    basis = basis_of(frontend, route, packet, targets, state)
    found: dict[tuple[str, int], LeftOut] = {}
    for each in sorted(candidates, key=lambda each: each.info.terminating):  # of duplicates the first counts (A22)
        place = (each.address, each.port)
        if place not in used and place not in found:
            found[place] = LeftOut(*place, _why_not(each, frontend, route, basis, state))
    return tuple(found[place] for place in sorted(found))


def _candidates(frontend: Frontend, packet: Packet, state: NodeState) -> list[_Candidate]:
    infos = state.cluster.endpoints.get(frontend.service.key, ()) if state.cluster else ()
    return [each for info in infos for each in _of_family(info, frontend, packet)]


def _of_family(info: EndpointInfo, frontend: Frontend, packet: Packet) -> Iterator[_Candidate]:
    port = match_port(info.ports, frontend.mapping)
    for address in info.addresses.family(packet.family):
        yield _Candidate(info, address, port.port if port else 0)


def _ready(candidates: Sequence[_Candidate]) -> list[EndpointInfo]:
    return [each.info for each in candidates if each.info.ready and each.port]


def _hinted(ready: Sequence[EndpointInfo], state: NodeState) -> Basis:
    """Hints count if every ready endpoint has them, and one is for us (B6, B7)."""
    zone = state.cluster.zone if state.cluster else ""
    if _counts(ready, lambda info: info.node_hints, state.node.name):
        return Basis.NODE_HINTS
    if _counts(ready, lambda info: info.zone_hints, zone):
        return Basis.ZONE_HINTS
    return Basis.READY


def _counts(ready: Sequence[EndpointInfo], hints: Callable[[EndpointInfo], tuple[str, ...]], wanted: str) -> bool:
    return bool(wanted) and all(hints(info) for info in ready) and any(wanted in hints(info) for info in ready)


def _why_not(each: _Candidate, frontend: Frontend, route: Route, basis: Basis, state: NodeState) -> str:
    info, mapping = each.info, frontend.mapping
    if not each.port:
        return f"has no port {mapping.name or mapping.port}/{mapping.protocol.name}"
    if not info.ready and not (info.terminating and info.serving):
        return "terminating, and no longer serves" if info.terminating else "not ready"
    if route.is_local and info.node != state.node.name:
        return f"on {f'node {info.node}' if info.node else 'no known node'}, and the policy is Local"
    if not info.ready:
        return "terminating, while others are ready"
    return _hinted_elsewhere(info, basis)


def _hinted_elsewhere(info: EndpointInfo, basis: Basis) -> str:
    if basis is Basis.NODE_HINTS:
        return f"hinted for {_named('node', info.node_hints)}"
    if basis is Basis.ZONE_HINTS:
        return f"hinted for {_named('zone', info.zone_hints)}"
    return "not among those that were chosen: the states asked for may be of different moments"


def _named(what: str, names: Sequence[str]) -> str:
    return f"{what}{'s' if len(names) > 1 else ''} {', '.join(names)}"
