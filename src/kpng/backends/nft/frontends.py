"""Frontends: where a service can be reached, and which service owns each where two claim the same."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple

from kpng.model import FAMILIES, Family, PortMapping, Protocol, Service, ServiceKey

from .fields import pack_address
from .layout import NODE_PORT, VIP

_PROTOCOL_NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132}
_PORT = struct.Struct(">B3xH2x")


class Rank(IntEnum):
    """What a frontend is, in the order in which claims to it count: nobody takes a cluster IP away from its
    service by naming it as an external IP (CVE-2020-8554)."""

    CLUSTER_IP = 0
    LOAD_BALANCER = 1
    EXTERNAL_IP = 2
    NODE_PORT = 3

    def __str__(self) -> str:
        return ("cluster IP", "load-balancer IP", "external IP", "node port")[self]


_RANKS = (Rank.CLUSTER_IP, Rank.LOAD_BALANCER, Rank.EXTERNAL_IP)
"""Of virtual IPs."""


class Frontend(NamedTuple):
    """``key`` is its key in the maps of its kind; ``claim`` is unique among all frontends of the machine."""

    family: Family
    kind: str
    rank: Rank
    mapping: PortMapping
    key: bytes
    claim: bytes

    @property
    def external(self) -> bool:
        return self.rank is not Rank.CLUSTER_IP

    def __str__(self) -> str:
        """As people write it: "cluster IP 10.96.0.7:80/TCP", "node port 30080/TCP"."""
        if self.kind == NODE_PORT:
            return f"{self.rank} {self.mapping.node_port}/{self.mapping.protocol.name}"
        address = ipaddress.ip_address(self.key[: -_PORT.size])
        host = f"[{address}]" if address.version == 6 else str(address)
        return f"{self.rank} {host}:{self.mapping.port}/{self.mapping.protocol.name}"


def is_proxied(service: Service) -> bool:
    """Headless services and ExternalName ones have nothing to forward (kube-proxy: clusterIP None)."""
    return not service.headless and service.type != "ExternalName"


def frontends(service: Service) -> Iterator[Frontend]:
    """Every frontend of a service. A family without a cluster IP has none (the service does not exist there)."""
    if not is_proxied(service):
        return
    for family in FAMILIES:
        if not service.cluster_ips.family(family):
            continue
        addresses = [(rank, pack_address(address)) for rank, address in _addresses(service, family)]
        for mapping in service.ports:
            yield from _port_frontends(family, mapping, addresses)


def _addresses(service: Service, family: Family) -> Iterator[tuple[Rank, str]]:
    """An address that is there twice counts as what comes first."""
    sources = (service.cluster_ips, service.load_balancer_ips, service.external_ips)
    seen: set[str] = set()
    for rank, addresses in zip(_RANKS, sources, strict=True):
        for address in addresses.family(family):
            if address not in seen:
                seen.add(address)
                yield rank, address


def _port_frontends(
    family: Family, mapping: PortMapping, addresses: Iterable[tuple[Rank, bytes]]
) -> Iterator[Frontend]:
    number = _PROTOCOL_NUMBERS.get(mapping.protocol)
    if number is None:
        return
    prefix = b"4" if family is Family.IPV4 else b"6"
    port = _PORT.pack(number, mapping.port)
    for rank, address in addresses:
        key = address + port
        yield Frontend(family, VIP, rank, mapping, key, prefix + key)
    if mapping.node_port:
        key = _PORT.pack(number, mapping.node_port)
        yield Frontend(family, NODE_PORT, Rank.NODE_PORT, mapping, key, prefix + key)


Claimants = tuple[tuple[Rank, ServiceKey], ...]
"""Who claims a frontend, the owner first: by rank, then by name, so that it never depends on who came first."""


class Claims:
    """Who claims each frontend. Changes are collected in a `ClaimsDraft` and taken over when they are real."""

    def __init__(self) -> None:
        self._claimants: dict[bytes, Claimants] = {}

    def claimants(self, claim: bytes) -> Claimants:
        return self._claimants.get(claim, ())

    def update(self, changed: Mapping[bytes, Claimants]) -> None:
        for claim, claimants in changed.items():
            if claimants:
                self._claimants[claim] = claimants
            else:
                self._claimants.pop(claim, None)


class ClaimsDraft:
    """Claims as they will be."""

    def __init__(self, base: Claims) -> None:
        self._base = base
        self.changed: dict[bytes, Claimants] = {}

    def claimants(self, claim: bytes) -> Claimants:
        found = self.changed.get(claim)
        return self._base.claimants(claim) if found is None else found

    def replace(self, key: ServiceKey, old: Service | None, new: Service | None) -> None:
        """A service changes from old to new."""
        if old == new:  # its endpoints do
            return
        before = _claims_of(old)
        after = _claims_of(new)
        for claim, rank in before.items():
            if after.get(claim) is not rank:
                self.changed[claim] = tuple(c for c in self.claimants(claim) if c[1] != key)
        for claim, rank in after.items():
            if before.get(claim) is not rank:
                self.changed[claim] = tuple(sorted((*self.claimants(claim), (rank, key))))

    def moved(self) -> Iterator[ServiceKey]:
        """Services that own something now that they did not, or no longer own what they did."""
        for claim, claimants in self.changed.items():
            before = self._base.claimants(claim)
            if len(before) > 1 or len(claimants) > 1:
                yield from (key for _, key in {*before, *claimants})


def _claims_of(service: Service | None) -> dict[bytes, Rank]:
    """A service's claims; where it has one twice, the first counts."""
    found: dict[bytes, Rank] = {}
    if service is not None:
        for frontend in frontends(service):
            found.setdefault(frontend.claim, frontend.rank)
    return found


def owned(service: Service, claims: Claims | ClaimsDraft) -> tuple[list[Frontend], list[tuple[Frontend, str]]]:
    """A service's frontends: those it owns, and those it lost, with who has them."""
    mine: list[Frontend] = []
    lost: list[tuple[Frontend, str]] = []
    key = service.key
    taken: dict[bytes, int] = {}
    for frontend in frontends(service):
        owner = claims.claimants(frontend.claim)[0][1]
        if owner != key:
            lost.append((frontend, f"service {owner}"))
        elif taken.setdefault(frontend.claim, id(frontend.mapping)) != id(frontend.mapping):
            lost.append((frontend, "another port of this service"))
        else:
            mine.append(frontend)
    return mine, lost
