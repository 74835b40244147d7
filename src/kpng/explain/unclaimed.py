"""Packets that are for no frontend: most are left alone, but nobody may wait for a service that is not there."""

from __future__ import annotations

from kpng.model import Protocol

from .explanation import Verdict
from .frontends import FrontendKind, node_port_owner, owners
from .packet import Packet
from .sender import Sender
from .state import NodeState, first_containing, is_loopback

Finding = tuple[Verdict, str]


def unclaimed(packet: Packet, sender: Sender, state: NodeState) -> Finding:
    """The verdict, and why (E4, E5, E6, H10)."""
    claims = sorted((kind, local.service.key) for kind, local in owners(packet, state))
    delivered_here = state.owns(packet.target) and not sender.is_process
    if not delivered_here:  # what is for the node itself is not looked at again
        refused = _among_cluster_ips(packet, state, bool(claims) and claims[0][0] is FrontendKind.CLUSTER_IP)
        if refused:
            verdict, reason = refused
            return verdict, reason.format(service=claims[0][1] if claims else "")
    if claims:
        kind, key = claims[0]
        return Verdict.NONE, f"{kind} of Service {key}, which {_has_not(packet)}; it may be somebody else's"
    return Verdict.NONE, _not_a_service(packet, state)


def _among_cluster_ips(packet: Packet, state: NodeState, taken: bool) -> Finding | None:
    if taken:
        return Verdict.REJECT, f"cluster IP of Service {{service}}, which {_has_not(packet)}"
    cidr = first_containing(state.node.service_cidrs, packet.target)
    if cidr:
        return Verdict.DROP, f"in the service CIDR {cidr}, and no cluster IP"
    return None


def _has_not(packet: Packet) -> str:
    if packet.protocol is Protocol.UNKNOWN:
        return "answers only at its ports"
    return f"has no port {packet.port}/{packet.protocol.name}"


def _not_a_service(packet: Packet, state: NodeState) -> str:
    node_port = node_port_owner(packet, state)
    if not state.owns(packet.target):
        hint = f"; it is the node port of {node_port.service.key}, but not this node's address" if node_port else ""
        return f"no Service has this address{hint}"
    if node_port is None:
        return "this node's own address, and no Service has this node port"
    owner = f"node port of Service {node_port.service.key}"
    if not is_loopback(packet.target):
        return f"{owner}, which is not offered at {packet.target}: it is not among --nodeport-addresses"
    if state.settings.localhost_node_ports and _is_listened_at(packet):
        return f"{owner}: the backend itself listens here, and passes it on to an address of this node"
    return f"{owner}, which is not offered at {packet.target}: it is loopback"


def _is_listened_at(packet: Packet) -> bool:
    return packet.protocol is Protocol.TCP and packet.target in ("127.0.0.1", "::1")
