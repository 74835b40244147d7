"""Who sends: a pod, a process of the node, or somebody outside (semantics D10, D11, F4)."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from kpng.model import DetectLocalMode, of_family

from .packet import Packet
from .state import NodeState, first_containing


class Origin(Enum):
    POD = "a pod"
    NODE = "a process of this node"
    OUTSIDE = "outside"


class Sender(Struct, frozen=True):
    """``is_pod``: None where nothing can be told. ``is_process``: the packet does not come in at all, but begins
    here. Both may hold: a bridge for pods often has one of their addresses. ``why``: what told it."""

    is_pod: bool | None
    is_process: bool
    why: str

    @property
    def origin(self) -> Origin:
        """What counts: the rules ask for pods first."""
        if self.is_pod:
            return Origin.POD
        return Origin.NODE if self.is_process else Origin.OUTSIDE


def sender_of(packet: Packet, state: NodeState) -> Sender:
    """Tell who sends a packet, as the node's settings would have it."""
    is_process = state.owns(packet.source)
    is_pod, why = _by_interface(packet, state) if state.settings.by_interface else _by_address(packet, state)
    if is_process and not is_pod:
        why = f"{packet.source} is this node's own address"
    return Sender(is_pod, is_process, why)


def _by_address(packet: Packet, state: NodeState) -> tuple[bool | None, str]:
    settings = state.settings
    if settings.detect_local_mode is DetectLocalMode.NODE_CIDR:
        what, cidrs = "this node's pod CIDRs", of_family(state.node.pod_cidrs, packet.family)
    else:
        what, cidrs = "--cluster-cidr", of_family(settings.cluster_cidrs, packet.family)
    if not cidrs:
        return None, f"pods cannot be told without {what} for IPv{packet.family.value}"
    found = first_containing(cidrs, packet.source)
    return bool(found), f"in {found}" if found else f"not in {', '.join(cidrs)} ({what})"


def _by_interface(packet: Packet, state: NodeState) -> tuple[bool, str]:
    """What begins on the node has no input interface (D11)."""
    if state.owns(packet.source):
        return False, ""
    if not packet.interface:
        return False, "no --in-interface, by which pods are told here"
    mode, name = state.settings.detect_local_mode, state.settings.pod_interface
    if mode is DetectLocalMode.BRIDGE_INTERFACE:
        is_pod, wanted = packet.interface == name, name
    else:
        is_pod, wanted = packet.interface.startswith(name), f"{name}*"
    return is_pod, f"comes in by {packet.interface}" + ("" if is_pod else f", not {wanted}")
