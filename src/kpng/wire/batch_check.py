"""Whether the deltas of a batch are surely what the model allows.

One expression over the lines of a whole batch costs a tenth of what checks of single values do. They are possessive
(`*+`), so that a long text that does not match is no more work than one that does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from itertools import chain, pairwise

from kpng.model import (
    Endpoint,
    EndpointPort,
    IPSet,
    PortMapping,
    Protocol,
    Service,
    check_endpoint_address,
    parse_address,
)

from .batch import ServiceDelta
from .paths import ENDPOINT_KEY

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_REFUSED = r"0\.|127\.|169\.254\.|22[4-9]\.|23[0-9]\.|255\."
"""How an endpoint's IPv4 address may not begin (`check_endpoint_address`; of 0/8 and 255/8 that is too much)."""

_NAMES = re.compile(r"(?:[a-z0-9][-a-z0-9.]{0,252}(?<![-.])\n)*+")
_LABELS = re.compile(r"(?:[a-z0-9][-a-z0-9]{0,62}(?<!-)\n)*+")
_KEYS = re.compile(rf"(?:{ENDPOINT_KEY}\n)*+")
_IPV4 = re.compile(rf"(?:{_OCTET}(?:\.{_OCTET}){{3}}\n)*+")
_ENDPOINT_IPV4 = re.compile(rf"(?:(?!{_REFUSED}){_OCTET}(?:\.{_OCTET}){{3}}\n)*+")
_TYPES = frozenset(("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"))
_MAX_SECONDS = (1 << 31) - 1
_MAX_PORT = 65_535
_MAX_AVAILABLE = 3


def surely_good(deltas: Sequence[ServiceDelta]) -> bool:
    """Whether everything in them is valid and canonical, as the lenient decoding of the plain protocol would leave
    it. False is not yet the contrary: what is rare (source ranges, odd addresses) is left to that too."""
    services = [delta.service for delta in deltas if delta.service is not None]
    endpoints = [endpoint for delta in deltas for endpoint in delta.endpoints.values() if endpoint is not None]
    return (
        _all_match(_NAMES, [part for delta in deltas for part in (delta.namespace, delta.name)])
        and _all_match(_KEYS, [key for delta in deltas for key in delta.endpoints])
        and all(map(_is_good_service, [delta for delta in deltas if delta.service is not None]))
        and _are_good_addresses([ips for service in services for ips in _addresses(service)], endpoints=False)
        and _are_good_mappings({service.ports for service in services})
        and _are_good_endpoints(endpoints)
    )


def _all_match(lines: re.Pattern[str], texts: Collection[str]) -> bool:
    joined = "\n".join(texts) + "\n" if texts else ""
    # a text of several lines is not what it seems
    return joined.count("\n") == len(texts) and lines.fullmatch(joined) is not None


def _is_good_service(delta: ServiceDelta) -> bool:
    service = delta.service
    return (
        service is not None
        and service.namespace == delta.namespace
        and service.name == delta.name
        and service.type in _TYPES
        and not service.source_ranges
        and 0 <= service.health_check_node_port <= _MAX_PORT
        and 0 <= service.session_affinity_seconds <= _MAX_SECONDS
    )


def _addresses(service: Service) -> list[IPSet]:
    every = (service.cluster_ips, service.external_ips, service.load_balancer_ips)
    return [addresses for addresses in every if addresses.v4 or addresses.v6]


def _are_good_addresses(sets: Collection[IPSet], *, endpoints: bool) -> bool:
    """At least one in each; canonical, each in its family, in order and once."""
    ipv4 = [addresses.v4 for addresses in sets]
    ipv6 = [addresses.v6 for addresses in sets]
    texts = list(chain.from_iterable(ipv4))
    if not _all_match(_ENDPOINT_IPV4 if endpoints else _IPV4, texts):
        return False
    if not any(ipv6):
        return () not in ipv4 and (len(texts) == len(sets) or all(map(_is_in_order, ipv4)))
    check = check_endpoint_address if endpoints else parse_address
    good = all(":" in address and _is_canonical(address, check) for address in chain.from_iterable(ipv6))
    return good and all(sets) and all(map(_is_in_order, ipv4)) and all(map(_is_in_order, ipv6))


def _is_in_order(texts: tuple[str, ...]) -> bool:
    return len(texts) < 2 or all(one < next_one for one, next_one in pairwise(texts))


def _is_canonical(address: str, check: Callable[[str], str]) -> bool:
    try:
        return check(address) == address
    except ValueError:
        return False


def _are_good_endpoints(endpoints: Collection[Endpoint]) -> bool:
    return (
        _are_good_addresses([endpoint.addresses for endpoint in endpoints], endpoints=True)
        and _all_match(_NAMES, [endpoint.hostname for endpoint in endpoints if endpoint.hostname])
        and _are_good_ports([endpoint.ports for endpoint in endpoints])
    )


def _are_good_ports(every: Collection[tuple[EndpointPort, ...]]) -> bool:
    distinct = dict(zip(map(id, every), every, strict=True)).values()  # shared objects, so that these are few
    ports = {port for each in distinct for port in each}
    return _all_match(_LABELS, [port.name for port in ports if port.name]) and all(
        0 < port.port <= _MAX_PORT and port.protocol is not Protocol.UNKNOWN for port in ports
    )


def _are_good_mappings(distinct: Collection[tuple[PortMapping, ...]]) -> bool:
    mappings = {mapping for each in distinct for mapping in each}
    names = [name for each in mappings for name in (each.name, each.target_port_name) if name]
    return _all_match(_LABELS, names) and all(map(_is_good_mapping, mappings))


def _is_good_mapping(mapping: PortMapping) -> bool:
    return (
        0 < mapping.port <= _MAX_PORT
        and mapping.protocol is not Protocol.UNKNOWN
        and 0 <= mapping.node_port <= _MAX_PORT
        and 0 <= mapping.target_port <= _MAX_PORT
        and 0 <= mapping.available <= _MAX_AVAILABLE
    )
