"""An EndpointSlice in kpng's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from sys import intern

from msgspec import Struct

from kpng.kube.objects import EndpointConditions, EndpointHints, EndpointSlice, Hint, SliceEndpoint
from kpng.model import (
    EndpointInfo,
    EndpointPort,
    EndpointSource,
    Family,
    InvalidObjectError,
    IPSet,
    ServiceKey,
    check_endpoint_address,
    check_name,
    check_port_name,
    check_zone,
    family_of,
    quoted,
)

from .common import FAMILY_NAMES, Faults
from .filters import SERVICE_NAME_LABEL

_NO_CONDITIONS = EndpointConditions()
_NO_HINTS = EndpointHints()


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
    ports = tuple(_ports(kube, faults))
    endpoints = tuple(_endpoints(kube, family, ports, faults)) if ports else ()
    key = ServiceKey(metadata.namespace or "default", service)
    return NamedSource(metadata.name or "", EndpointSource(key, endpoints))


def _ports(kube: EndpointSlice, faults: Faults) -> Iterator[EndpointPort]:
    """A left-out name is the empty name (the API's default); a port without number is "all ports", not for us."""
    seen = set()
    for index, port in enumerate(kube.ports or ()):
        where = f"ports[{index}]"
        if port.port is None or not faults.port(port.port, f"{where}.port"):
            continue
        protocol = faults.protocol(port.protocol, f"{where}.protocol")
        name = faults.name(check_port_name, port.name, f"{where}.name")
        if protocol is None or (port.name and not name):
            continue
        identity = (name, protocol)
        if identity in seen:
            faults.add(where, f"a second {protocol.name} port named {name!r}")
            continue
        seen.add(identity)
        yield EndpointPort(name, port.port, protocol)


def _endpoints(
    kube: EndpointSlice, family: Family, ports: tuple[EndpointPort, ...], faults: Faults
) -> Iterator[EndpointInfo]:
    for index, endpoint in enumerate(kube.endpoints or ()):
        where = f"endpoints[{index}]"
        address = _address(endpoint, family, f"{where}.addresses", faults)
        if address is not None:
            yield _endpoint(endpoint, address, ports, where, faults)


def _address(endpoint: SliceEndpoint, family: Family, where: str, faults: Faults) -> str | None:
    """The first address: the API says that all are the same endpoint, and kube-proxy takes the first."""
    if not endpoint.addresses:
        faults.add(where, "not set")
        return None
    field = f"{where}[0]"
    address = faults.check(check_endpoint_address, endpoint.addresses[0], field)
    if address is not None and family_of(address) is not family:
        faults.add(field, f"{address} is not of addressType IPv{family.value}")
        return None
    return address


def _endpoint(
    endpoint: SliceEndpoint, address: str, ports: tuple[EndpointPort, ...], where: str, faults: Faults
) -> EndpointInfo:
    """``null`` means true for ready and serving, and false for terminating (as kube-proxy reads them)."""
    conditions = endpoint.conditions or _NO_CONDITIONS
    hints = endpoint.hints or _NO_HINTS
    target = endpoint.target_ref
    pod = target.name if target and target.kind == "Pod" else None
    return EndpointInfo(
        addresses=IPSet((), (address,)) if ":" in address else IPSet((address,)),
        ports=ports,
        hostname=faults.name(check_name, endpoint.hostname, f"{where}.hostname"),
        pod_name=faults.name(check_name, pod, f"{where}.targetRef.name"),
        node=intern(faults.name(check_name, endpoint.node_name, f"{where}.nodeName")),
        zone=intern(faults.name(check_zone, endpoint.zone, f"{where}.zone")),
        ready=conditions.ready is not False,
        serving=conditions.serving is not False,
        terminating=conditions.terminating is True,
        zone_hints=_hints(hints.for_zones, check_zone, f"{where}.hints.forZones", faults),
        node_hints=_hints(hints.for_nodes, check_name, f"{where}.hints.forNodes", faults),
    )


def _hints(
    hints: list[Hint] | None, check: Callable[[str, str], str], field: str, faults: Faults
) -> tuple[str, ...]:
    if not hints:
        return ()
    try:
        return _checked(tuple(hint.name for hint in hints if hint.name), check)
    except InvalidObjectError as error:
        faults.add(field, error.message)
        return ()


@lru_cache(maxsize=4096)
def _checked(names: tuple[str, ...], check: Callable[[str, str], str]) -> tuple[str, ...]:
    """Sorted; one tuple for all endpoints with the same hints: there are many endpoints and few zones."""
    return tuple(sorted({intern(check(name, "")) for name in names}))
