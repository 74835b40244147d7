"""The endpoints that a packet may be sent to, and with whose address it arrives (semantics D8, D9)."""

from __future__ import annotations

from ipaddress import ip_address

from kpng.model import Endpoint

from .explanation import Target
from .frontends import Frontend
from .packet import Packet
from .routes import Route
from .sender import Sender
from .state import NodeState


def targets_of(
    frontend: Frontend, route: Route, packet: Packet, sender: Sender, state: NodeState
) -> tuple[Target, ...]:
    """In the order of their addresses, each once (A22)."""
    found: dict[tuple[str, int], Target] = {}
    for endpoint in frontend.local.endpoints.values():
        port = endpoint.port_for(frontend.mapping)
        if not port or not getattr(endpoint.scopes, route.scope):
            continue
        for address in endpoint.addresses.family(packet.family):
            masquerade, why = _masquerade(endpoint, address, route, packet, sender, state)
            target = Target(address, port, endpoint.local, endpoint.terminating, masquerade, why)
            found.setdefault((address, port), target)
    return tuple(sorted(found.values(), key=lambda target: (ip_address(target.address), target.port)))


def serves_family(frontend: Frontend, packet: Packet) -> bool:
    """Whether anybody in the cluster could serve the port, as far as local state tells."""
    return bool(frontend.mapping.available & packet.family.bit) or any(
        endpoint.port_for(frontend.mapping) and endpoint.addresses.family(packet.family)
        for endpoint in frontend.local.endpoints.values()
    )


def _masquerade(
    endpoint: Endpoint, address: str, route: Route, packet: Packet, sender: Sender, state: NodeState
) -> tuple[bool, str]:
    if state.owns(address) and not sender.is_process:
        return False, "delivered on this node itself, which it does not leave"
    if route.masquerade:
        return True, route.why
    if endpoint.local and address == packet.source:
        return True, "hairpin: the endpoint reaches itself"
    return False, route.why
