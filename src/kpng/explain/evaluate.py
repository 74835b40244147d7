"""The rules, in the order in which they meet a packet (semantics C2)."""

from __future__ import annotations

from collections.abc import Iterator

from kpng.model import Service, of_family

from .choice import basis_of, choice_text, left_out
from .explanation import Explanation, Verdict
from .frontends import Frontend, FrontendKind, find_frontend
from .packet import Packet
from .routes import Route, route_of
from .sender import Sender, sender_of
from .state import NodeState, first_containing
from .targets import serves_family, targets_of
from .unclaimed import unclaimed


def explain(state: NodeState, packet: Packet) -> Explanation:
    """What becomes of the first packet of a connection at this node. Later ones go where it went."""
    sender = sender_of(packet, state)
    frontend = find_frontend(packet, state)
    notes = tuple(_notes(frontend, state))
    if frontend is None:
        verdict, reason = unclaimed(packet, sender, state)
    else:
        reason = _refused_source(frontend, packet, state)
        if not reason:
            return _served(frontend, packet, sender, state, notes)
        verdict = Verdict.DROP
    return Explanation(
        packet=packet,
        node=state.node.name,
        sender=sender,
        verdict=verdict,
        reason=reason,
        frontend=frontend,
        notes=notes,
    )


def _refused_source(frontend: Frontend, packet: Packet, state: NodeState) -> str:
    """Why the source may not use this address; "" if it may (G2 to G6, E7).

    Ranges of the other family alone close this one's addresses: who restricts access means all of it. (kube-proxy
    leaves them open: X11.)
    """
    service = frontend.service
    if frontend.kind is not FrontendKind.LOAD_BALANCER_IP or not service.source_ranges:
        return ""
    ranges = of_family(service.source_ranges, packet.family)
    if any(cidr.endswith("/0") for cidr in ranges) or first_containing(ranges, packet.source):
        return ""
    node_allowed = any(first_containing(ranges, own) for own in state.node.addresses.family(packet.family))
    if node_allowed and packet.source in service.load_balancer_ips.family(packet.family):
        return ""  # G5: a node that is allowed may have the service's address, and send from it
    return f"{packet.source} is in none of loadBalancerSourceRanges ({', '.join(service.source_ranges)})"


def _served(
    frontend: Frontend, packet: Packet, sender: Sender, state: NodeState, notes: tuple[str, ...]
) -> Explanation:
    route = route_of(frontend, sender, state.settings)
    targets = targets_of(frontend, route, packet, sender, state)
    if targets:
        verdict, reason = Verdict.FORWARD, f"{frontend.kind} of Service {frontend.service.key}"
        choice = choice_text(basis_of(frontend, route, packet, targets, state), route, state)
    else:
        verdict, reason = _without_endpoints(frontend, route, packet)
        choice = ""
    return Explanation(
        packet=packet,
        node=state.node.name,
        sender=sender,
        verdict=verdict,
        reason=reason,
        frontend=frontend,
        route=route,
        targets=targets,
        choice=choice,
        left_out=left_out(frontend, route, packet, targets, state),
        notes=notes,
    )


def _without_endpoints(frontend: Frontend, route: Route, packet: Packet) -> tuple[Verdict, str]:
    """Nobody anywhere is told to the client; that nobody is here is not, so that others are tried (E1 to E3)."""
    if serves_family(frontend, packet):
        return Verdict.DROP, f"{route.policy}, and no endpoint on this node is usable; there are some elsewhere"
    return Verdict.REJECT, f"no endpoint in the cluster is usable for IPv{packet.family.value}"


def _notes(frontend: Frontend | None, state: NodeState) -> Iterator[str]:
    """What else the user should know."""
    node = state.node
    if not node.addresses and not node.eligible:
        yield f"nothing is known of a Node {node.name}: no pod CIDRs, and no addresses but those given"
    if frontend is None:
        return
    if frontend.rivals:
        names = ", ".join(map(str, frontend.rivals))
        yield f"also claimed by {names}, in vain: cluster IPs come first, then names in their order"
    yield from _affinity(frontend.service)


def _affinity(service: Service) -> Iterator[str]:
    seconds = service.session_affinity_seconds
    if seconds:
        yield (
            f"session affinity: a client that made a connection in the last {seconds} s is sent to the same "
            "endpoint again, if that is among these"
        )
