"""Which frontend of which service a packet is for (semantics C1, C2, H1 to H5)."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from msgspec import Struct

from kpng.model import PRIMARY, LocalService, PortMapping, Service, ServiceKey, family_of, of_family

from .packet import Packet
from .state import NodeState, first_containing, is_loopback


class FrontendKind(IntEnum):
    """In the order in which claims count: nobody takes a cluster IP from its service (CVE-2020-8554)."""

    CLUSTER_IP = 0
    LOAD_BALANCER_IP = 1
    EXTERNAL_IP = 2
    NODE_PORT = 3

    def __str__(self) -> str:
        return ("cluster IP", "load-balancer IP", "external IP", "node port")[self]


class Frontend(Struct, frozen=True):
    """Where a service is reached. ``rivals``: other services that claim the same, in vain."""

    kind: FrontendKind
    local: LocalService
    mapping: PortMapping
    rivals: tuple[ServiceKey, ...] = ()

    @property
    def service(self) -> Service:
        return self.local.service

    @property
    def is_external(self) -> bool:
        return self.kind is not FrontendKind.CLUSTER_IP


def find_frontend(packet: Packet, state: NodeState) -> Frontend | None:
    """The frontend that a packet is for. Addresses of services come before node ports (C2)."""
    found = _first(_at_address(packet, state))
    if found is None and offers_node_ports(packet.target, state):
        found = _first(_at_node_port(packet, state))
    return found


def addresses_of(service: Service, packet: Packet) -> Iterator[tuple[FrontendKind, str]]:
    """A service's addresses in the packet's family; none where it has no cluster IP in that family (A8)."""
    if service.headless or service.type == "ExternalName" or not service.cluster_ips.family(packet.family):
        return
    sets = (service.cluster_ips, service.load_balancer_ips, service.external_ips)
    for kind, addresses in zip(FrontendKind, sets, strict=False):
        for address in addresses.family(packet.family):
            yield kind, address


def owners(packet: Packet, state: NodeState) -> Iterator[tuple[FrontendKind, LocalService]]:
    """The services that have the target among their addresses, at whatever port."""
    for local in state.services.values():
        for kind, address in addresses_of(local.service, packet):
            if address == packet.target:
                yield kind, local


def node_port_owner(packet: Packet, state: NodeState) -> Frontend | None:
    """The service that has this node port, wherever it is offered."""
    return _first(_at_node_port(packet, state))


def offers_node_ports(address: str, state: NodeState) -> bool:
    """Whether the node offers node ports at this address: its own, and never on loopback (H4, H5)."""
    if not state.owns(address) or is_loopback(address):
        return False
    offered = state.settings.node_port_addresses
    if offered == PRIMARY:
        return address in state.node.addresses.all()
    cidrs = of_family(offered, family_of(address))
    everywhere = not cidrs or any(cidr.endswith("/0") for cidr in cidrs)  # H3
    return everywhere or bool(first_containing(cidrs, address))


def _at_address(packet: Packet, state: NodeState) -> Iterator[Frontend]:
    for kind, local in owners(packet, state):
        for mapping in local.service.ports:
            if mapping.port == packet.port and mapping.protocol is packet.protocol:
                yield Frontend(kind, local, mapping)


def _at_node_port(packet: Packet, state: NodeState) -> Iterator[Frontend]:
    for local in state.services.values():
        if not any(addresses_of(local.service, packet)):
            continue
        for mapping in local.service.ports:
            if packet.port and mapping.node_port == packet.port and mapping.protocol is packet.protocol:
                yield Frontend(FrontendKind.NODE_PORT, local, mapping)


def _first(claims: Iterator[Frontend]) -> Frontend | None:
    """The claim that counts: by kind, then by the service's name, so that it never depends on who came first."""
    ordered = sorted(claims, key=lambda claim: (claim.kind, claim.service.key))
    if not ordered:
        return None
    first = ordered[0]
    rivals = sorted({claim.service.key for claim in ordered} - {first.service.key})
    return Frontend(first.kind, first.local, first.mapping, tuple(rivals))
