"""What of a service concerns connection tracking: where UDP packets are taken, and who may answer them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import NamedTuple

from kpng.host.conntrack import Query, socket_address
from kpng.model import FAMILIES, Family, LocalService, PortMapping, Protocol, Service

SOCKET_FAMILY = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}

Targets = frozenset[bytes]
"""Socket addresses (`kpng.host.conntrack.messages`) of endpoints."""

_IPV4_SIZE = 6


class Frontend(NamedTuple):
    """Where a service takes UDP packets; ``address`` is packed, and empty for a node port."""

    family: Family
    address: bytes
    port: int

    @classmethod
    def at(cls, where: bytes) -> Frontend:
        """The frontend at a socket address."""
        family = Family.IPV4 if len(where) == _IPV4_SIZE else Family.IPV6
        return cls(family, where[:-2], int.from_bytes(where[-2:], "big"))

    @property
    def is_node_port(self) -> bool:
        return not self.address

    def query(self) -> Query:
        """Finds the flows to here; for a node port also those to the same port of other machines."""
        return Query(SOCKET_FAMILY[self.family], address=self.address, port=self.port)


def has_udp(local: LocalService | None) -> bool:
    return local is not None and any(mapping.protocol is Protocol.UDP for mapping in local.service.ports)


def frontends(local: LocalService | None) -> dict[Frontend, Targets]:
    """The UDP frontends of a service, each with its endpoints: all that the local state names, in whatever scope.

    A flow to an endpoint outside the frontend's scope was once right, and the endpoint serves: it goes on (O5).
    A family without a cluster IP has no frontends; neither have headless and ExternalName services.
    """
    if local is None or not has_udp(local) or local.service.headless or local.service.type == "ExternalName":
        return {}
    found: dict[Frontend, Targets] = {}
    for family in FAMILIES:
        if not local.service.cluster_ips.family(family):
            continue
        for mapping in local.service.ports:
            if mapping.protocol is Protocol.UDP:
                targets = frozenset(_targets(local, mapping, family))
                for frontend in _of_port(local.service, mapping, family):
                    found[frontend] = found.get(frontend, Targets()) | targets
    return found


def _of_port(service: Service, mapping: PortMapping, family: Family) -> Iterator[Frontend]:
    for addresses in (service.cluster_ips, service.load_balancer_ips, service.external_ips):
        for address in addresses.family(family):
            yield Frontend(family, socket.inet_pton(SOCKET_FAMILY[family], address), mapping.port)
    if mapping.node_port:
        yield Frontend(family, b"", mapping.node_port)


def _targets(local: LocalService, mapping: PortMapping, family: Family) -> Iterator[bytes]:
    for endpoint in local.endpoints.values():
        port = endpoint.port_for(mapping)
        if port:
            yield from (socket_address(address, port) for address in endpoint.addresses.family(family))
