"""From a service to the elements it needs. A pure function: equal services give equal elements."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

from kpng.model import Family, LocalService, PortMapping, Service

from .fields import pack_address
from .frontends import Frontend
from .layout import (
    CLUSTER_IPS,
    HAIRPIN,
    KINDS,
    LONGEST_AFFINITY_SECONDS,
    MOST_STICKY_ENDPOINTS,
    Options,
    service_class,
)
from .ruleset import Elements

_MARK = struct.Struct("=I")
_PORT = struct.Struct(">H2x")
NAMES = {
    (kind, name): f"{kind}{name}"
    for kind in KINDS
    for name in (
        "services",
        "endpoints",
        "rejected",
        "dropped",
        "masqueraded",
        "affinity_services",
        "affinity_numbers",
        "affinity_endpoints",
    )
}
SHARED_SETS = frozenset({CLUSTER_IPS, HAIRPIN})
"""Sets in which several services may need the same element."""


@lru_cache(maxsize=4096)
def mark(number: int) -> bytes:
    """A number as a packet mark or an index: 32 bits in the host's byte order."""
    return _MARK.pack(number)


def contents(local: LocalService, owned: Iterable[Frontend], options: Options) -> dict[Family, Elements]:
    """What a service needs for the frontends it owns, by family."""
    found: dict[Family, Elements] = {}
    choices: dict[tuple[Family, int, bool], list[bytes]] = {}
    for frontend in owned:
        family, mapping = frontend.family, frontend.mapping
        table = found.get(family) or found.setdefault(family, _shared(local, family))
        place = (family, id(mapping), frontend.external)
        endpoints = choices.get(place)
        if endpoints is None:
            endpoints = choices[place] = _endpoints(local, family, mapping, external=frontend.external)
        if endpoints:
            _forward(table, local.service, frontend, endpoints)
            if _masquerades(local.service, frontend, options):
                _add(table, frontend.kind, "masqueraded", frontend.key)
        else:
            name = "dropped" if mapping.available & family.bit else "rejected"
            _add(table, frontend.kind, name, frontend.key)
    return found


def _add(table: Elements, kind: str, name: str, key: bytes, data: bytes = b"") -> None:
    table.setdefault(NAMES[kind, name], {})[key] = data


def _shared(local: LocalService, family: Family) -> Elements:
    """Cluster IPs, whatever their ports; and local endpoints, which may be their own clients."""
    elements: Elements = {CLUSTER_IPS: {pack_address(a): b"" for a in local.service.cluster_ips.family(family)}}
    here = {pack_address(a) for e in local.endpoints.values() if e.local for a in e.addresses.family(family)}
    if here:
        elements[HAIRPIN] = {address + address: b"" for address in here}
    return elements


def _endpoints(local: LocalService, family: Family, mapping: PortMapping, *, external: bool) -> list[bytes]:
    """Address and port of each endpoint that may be used, in a fixed order, without duplicates."""
    return sorted(
        {
            pack_address(address) + _PORT.pack(port)
            for endpoint in local.endpoints.values()
            if (endpoint.scopes.external if external else endpoint.scopes.internal)
            and (port := endpoint.port_for(mapping))
            for address in endpoint.addresses.family(family)
        }
    )


def _masquerades(service: Service, frontend: Frontend, options: Options) -> bool:
    """External traffic leaves by this node, so answers must come back to it; with the Local policy the endpoint
    is here and sees the client's address. Cluster IPs by flag (the CIDR is a rule, see layout)."""
    return not service.external_traffic_local if frontend.external else options.masquerade_all


def _forward(table: Elements, service: Service, frontend: Frontend, endpoints: list[bytes]) -> None:
    seconds = min(service.session_affinity_seconds, LONGEST_AFFINITY_SECONDS)
    if seconds and len(endpoints) <= MOST_STICKY_ENDPOINTS:  # a class has no room for more; then no affinity
        _forward_sticky(table, service, frontend, endpoints, seconds)
        return
    kind, key = frontend.kind, frontend.key
    _add(table, kind, "services", key, mark(service_class(len(endpoints))))
    slots = table.setdefault(NAMES[kind, "endpoints"], {})
    for index, endpoint in enumerate(endpoints):
        slots[key + mark(index)] = endpoint


def _forward_sticky(
    table: Elements, service: Service, frontend: Frontend, endpoints: list[bytes], seconds: int
) -> None:
    """Clients are remembered per service port and policy, so all its frontends of one policy share them."""
    kind, key = frontend.kind, frontend.key
    local = service.external_traffic_local if frontend.external else service.internal_traffic_local
    _add(table, kind, "services", key, mark(service_class(len(endpoints), seconds)))
    _add(table, kind, "affinity_services", key, service_number(service, frontend.mapping, local=local))
    for index, (number, endpoint) in enumerate(zip(endpoint_numbers(endpoints), endpoints, strict=True)):
        _add(table, kind, "affinity_numbers", key + mark(index), number)
        _add(table, kind, "affinity_endpoints", key + number, endpoint)


def service_number(service: Service, mapping: PortMapping, *, local: bool) -> bytes:
    """A number for a service port that stays the same over restarts, as the clients' map does.

    It is a hash, so two service ports could share one (one in a million with 90 sticky service ports): clients
    of both would then lose their stickiness, nothing else.
    """
    return _hash(f"{service.key}/{mapping.name}/{mapping.port}/{mapping.protocol}/{local}".encode())


def endpoint_numbers(endpoints: list[bytes]) -> list[bytes]:
    """A number for each endpoint that does not depend on its place, unique among these."""
    taken: set[bytes] = set()
    numbers = []
    for endpoint in endpoints:
        number = _hash(endpoint)
        while number in taken:
            number = _hash(number + endpoint)
        taken.add(number)
        numbers.append(number)
    return numbers


def _hash(value: bytes) -> bytes:
    return blake2b(value, digest_size=4).digest()
