"""From a service to the elements it needs. A pure function: equal services give equal elements."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from kpng.model import EndpointPort, Family, IPSet, LocalService, PortMapping, Service, of_family

from .fields import pack_address
from .frontends import Frontend, Rank
from .intervals import contains, interval_keys, intervals
from .layout import (
    CLUSTER_IPS,
    GUARDED,
    HAIRPIN,
    INSIDE,
    KINDS,
    LONGEST_AFFINITY_SECONDS,
    MOST_STICKY_ENDPOINTS,
    NODE_PORT,
    SOURCE_RANGES,
    VIP,
    service_class,
)
from .options import Options
from .ruleset import Elements

_UNKNOWN = IPSet()
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
        "affinity_others",
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


def contents(
    local: LocalService, owned: Iterable[Frontend], options: Options, node_addresses: IPSet = _UNKNOWN
) -> dict[Family, Elements]:
    """What a service needs for the frontends it owns, by family. ``node_addresses``: the Node's, where known."""
    service = local.service
    found: dict[Family, Elements] = {}
    choices: dict[tuple[Family, int, str], list[bytes]] = {}
    for frontend in owned:
        family, mapping = frontend.family, frontend.mapping
        table = found.get(family) or found.setdefault(family, _shared(local, family))
        for way in _ways(service, frontend):
            place = (family, id(mapping), way.scope)
            endpoints = choices.get(place)
            if endpoints is None:
                endpoints = choices[place] = _endpoints(local, family, mapping, way.scope)
            if endpoints:
                _forward(table, service, frontend, way, endpoints)
                if way.masquerades or (options.masquerade_all and not frontend.external):
                    _add(table, way.kind, "masqueraded", frontend.key)
            elif way.is_all:
                name = "dropped" if mapping.available & family.bit else "rejected"
                _add(table, way.kind, name, frontend.key)
        if service.source_ranges and frontend.rank is Rank.LOAD_BALANCER:
            _guard(table, service, frontend, node_addresses)
    return found


class _Way(NamedTuple):
    """A way to a service's endpoints: in the maps of this kind, to endpoints in this scope.

    ``local``: the traffic policy is Local. ``masquerades``: external traffic leaves by this node, so answers must
    come back to it; with the Local policy the endpoint is here and sees the client's address. ``is_all``: not only
    for what begins inside the cluster.
    """

    kind: str
    scope: str
    local: bool
    masquerades: bool
    is_all: bool = True


_WAYS = {
    (kind, local): [
        _Way(kind, "external", local, not local),
        *([_Way(INSIDE[kind], "short_circuit", False, True, is_all=False)] if local else []),
    ]
    for kind in (VIP, NODE_PORT)
    for local in (False, True)
}
_INTERNAL_WAYS = {local: [_Way(VIP, "internal", local, False)] for local in (False, True)}


def _ways(service: Service, frontend: Frontend) -> list[_Way]:
    if frontend.external:
        return _WAYS[frontend.kind, service.external_traffic_local]
    return _INTERNAL_WAYS[service.internal_traffic_local]


def _add(table: Elements, kind: str, name: str, key: bytes, data: bytes = b"") -> None:
    table.setdefault(NAMES[kind, name], {})[key] = data


def _shared(local: LocalService, family: Family) -> Elements:
    """Cluster IPs, whatever their ports; and local endpoints, which may be their own clients."""
    elements: Elements = {CLUSTER_IPS: {pack_address(a): b"" for a in local.service.cluster_ips.family(family)}}
    here = {pack_address(a) for e in local.endpoints.values() if e.local for a in e.addresses.family(family)}
    if here:
        elements[HAIRPIN] = {address + address: b"" for address in here}
    return elements


def _endpoints(local: LocalService, family: Family, mapping: PortMapping, scope: str) -> list[bytes]:
    """Address and port of each endpoint that may be used, in a fixed order, without duplicates."""
    found: set[bytes] = set()
    ports: tuple[EndpointPort, ...] | None = None
    number, port = 0, b""
    for endpoint in local.endpoints.values():
        if endpoint.ports is not ports:  # those of one EndpointSlice share them
            ports = endpoint.ports
            number = endpoint.port_for(mapping)
            port = _PORT.pack(number)
        if number and getattr(endpoint.scopes, scope):
            found.update([pack_address(address) + port for address in endpoint.addresses.family(family)])
    return sorted(found)


def _guard(table: Elements, service: Service, frontend: Frontend, node_addresses: IPSet) -> None:
    """Source ranges of one family alone close the other's addresses: who restricts access means all of it.

    A node that is allowed may have the service's own address on an interface, and then sends from that.
    """
    family = frontend.family
    ranges = tuple(of_family(service.source_ranges, family))
    if any(cidr.endswith("/0") for cidr in ranges):
        return
    allowed = intervals(ranges, family)
    if any(contains(allowed, address) for address in node_addresses.family(family)):
        allowed = intervals((*ranges, *service.load_balancer_ips.family(family)), family)
    table.setdefault(GUARDED, {})[frontend.key] = b""
    if allowed:
        table.setdefault(SOURCE_RANGES, {}).update(interval_keys(allowed, frontend.key))


def _forward(table: Elements, service: Service, frontend: Frontend, way: _Way, endpoints: list[bytes]) -> None:
    seconds = min(service.session_affinity_seconds, LONGEST_AFFINITY_SECONDS)
    if seconds and len(endpoints) <= MOST_STICKY_ENDPOINTS:  # a class has no room for more; then no affinity
        _forward_sticky(table, service, frontend, way, endpoints, seconds)
        return
    kind, key = way.kind, frontend.key
    _add(table, kind, "services", key, mark(service_class(len(endpoints))))
    slots = table.setdefault(NAMES[kind, "endpoints"], {})
    for index, endpoint in enumerate(endpoints):
        slots[key + mark(index)] = endpoint


def _forward_sticky(
    table: Elements, service: Service, frontend: Frontend, way: _Way, endpoints: list[bytes], seconds: int
) -> None:
    """Clients are remembered per service port and policy, so all its frontends of one policy share them. Where both
    policies are in use, a client that is new to one keeps what it has by the other, if it is an endpoint of both;
    if it is not, neither forgets."""
    kind, key, mapping = way.kind, frontend.key, frontend.mapping
    _add(table, kind, "services", key, mark(service_class(len(endpoints), seconds)))
    _add(table, kind, "affinity_services", key, service_number(service, mapping, local=way.local))
    if service.internal_traffic_local or service.external_traffic_local:
        _add(table, kind, "affinity_others", key, service_number(service, mapping, local=not way.local))
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
