"""An EndpointSlice in kpng's words."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from msgspec import Struct

from kpng.kube.objects import EndpointConditions, EndpointHints, EndpointSlice, Hint, SliceEndpoint, SlicePort
from kpng.model import (
    EndpointInfo,
    EndpointPort,
    EndpointSource,
    Family,
    IPSet,
    Problem,
    ServiceKey,
    check_endpoint_address,
    check_name,
    check_port_name,
    family_of,
    quoted,
)

from .common import FAMILY_NAMES, Faults, shared_name, shared_zone
from .filters import SERVICE_NAME_LABEL

_NO_CONDITIONS = EndpointConditions()


class NamedSource(Struct, frozen=True, gc=False):
    """The endpoints of one slice, under the slice's name."""

    name: str
    source: EndpointSource


def slice_source(kube: EndpointSlice, faults: Faults) -> NamedSource | None:
    """The endpoints of a slice; None where it belongs to no service or holds host names.

    A slice without a usable port has no endpoints for us: to kpng's model, an endpoint without ports would be
    one that listens on the service's own target ports.
    """
    metadata = kube.metadata
    service = (metadata.labels or {}).get(SERVICE_NAME_LABEL)
    if not service:
        faults.add("metadata.labels", f"no {SERVICE_NAME_LABEL}, so it belongs to no service")
        return None
    if not faults.name(check_name, service, f"metadata.labels[{SERVICE_NAME_LABEL}]"):
        return None
    if kube.address_type == "FQDN":
        return None
    family = FAMILY_NAMES.get(kube.address_type or "")
    if family is None:
        faults.add("addressType", f"{quoted(kube.address_type or '')} is not known (IPv4, IPv6, FQDN)")
        return None
    ports, problems = _ports(kube.ports or ())
    faults.extend(problems)
    endpoints = tuple(_endpoints(kube, family, ports, faults)) if ports else ()
    key = ServiceKey(shared_name(metadata.namespace or "default"), service)
    return NamedSource(metadata.name or "", EndpointSource(key, endpoints))


@lru_cache(maxsize=1024)
def _ports(ports: tuple[SlicePort, ...]) -> tuple[tuple[EndpointPort, ...], list[Problem]]:
    """The ports that can be used, and problems without a subject: very many slices have the same ports."""
    faults = Faults("", "")
    return tuple(_usable_ports(ports, faults)), faults.problems


def _usable_ports(ports: tuple[SlicePort, ...], faults: Faults) -> Iterator[EndpointPort]:
    """A left-out name is the empty name (the API's default); a port without number is "all ports", not for us."""
    seen = set()
    for index, port in enumerate(ports):
        if port.port is None or not faults.port(port.port, "ports[{}].port", index):
            continue
        protocol = faults.protocol(port.protocol, "ports[{}].protocol", index)
        name = faults.name(check_port_name, port.name, "ports[{}].name", index)
        if protocol is None or (port.name and not name):
            continue
        identity = (name, protocol)
        if identity in seen:
            faults.add("ports[{}]", f"a second {protocol.name} port named {name!r}", index)
            continue
        seen.add(identity)
        yield EndpointPort(name, port.port, protocol)


def _endpoints(
    kube: EndpointSlice, family: Family, ports: tuple[EndpointPort, ...], faults: Faults
) -> Iterator[EndpointInfo]:
    for index, endpoint in enumerate(kube.endpoints or ()):
        address = _address(endpoint, family, index, faults)
        if address is not None:
            yield _endpoint(endpoint, address, ports, index, faults)


def _address(endpoint: SliceEndpoint, family: Family, index: int, faults: Faults) -> str | None:
    """The first address: the API says that all are the same endpoint, and kube-proxy takes the first."""
    if not endpoint.addresses:
        faults.add("endpoints[{}].addresses", "not set", index)
        return None
    field = "endpoints[{}].addresses[0]"
    address = faults.check(check_endpoint_address, endpoint.addresses[0], field, index)
    if address is not None and family_of(address) is not family:
        faults.add(field, f"{address} is not of addressType IPv{family.value}", index)
        return None
    return address


def _endpoint(
    endpoint: SliceEndpoint, address: str, ports: tuple[EndpointPort, ...], index: int, faults: Faults
) -> EndpointInfo:
    """``null`` means true for ready and serving, and false for terminating (as kube-proxy reads them)."""
    conditions = endpoint.conditions or _NO_CONDITIONS
    zone_hints, node_hints = _hints(endpoint.hints, index, faults) if endpoint.hints else ((), ())
    target = endpoint.target_ref
    pod = target.name if target and target.kind == "Pod" else None
    return EndpointInfo(
        addresses=IPSet((), (address,)) if ":" in address else IPSet((address,)),
        ports=ports,
        hostname=faults.name(check_name, endpoint.hostname, "endpoints[{}].hostname", index),
        pod_name=faults.name(check_name, pod, "endpoints[{}].targetRef.name", index),
        node=faults.name(shared_name, endpoint.node_name, "endpoints[{}].nodeName", index),
        zone=faults.name(shared_zone, endpoint.zone, "endpoints[{}].zone", index),
        ready=conditions.ready is not False,
        serving=conditions.serving is not False,
        terminating=conditions.terminating is True,
        zone_hints=zone_hints,
        node_hints=node_hints,
    )


def _hints(hints: EndpointHints, index: int, faults: Faults) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The zones and the nodes that an endpoint is for."""
    zones = faults.check(_zones, hints.for_zones or (), "endpoints[{}].hints.forZones", index)
    nodes = faults.check(_nodes, hints.for_nodes or (), "endpoints[{}].hints.forNodes", index)
    return zones or (), nodes or ()


@lru_cache(maxsize=4096)
def _zones(hints: tuple[Hint, ...]) -> tuple[str, ...]:
    """Sorted; one tuple for all endpoints with the same hints: there are many endpoints and few zones."""
    return tuple(sorted({shared_zone(hint.name) for hint in hints if hint.name}))


@lru_cache(maxsize=16384)
def _nodes(hints: tuple[Hint, ...]) -> tuple[str, ...]:
    """As `_zones`."""
    return tuple(sorted({shared_name(hint.name) for hint in hints if hint.name}))
