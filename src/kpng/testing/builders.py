"""Services and endpoints in one readable line each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kpng.model import (
    Endpoint,
    EndpointInfo,
    EndpointPort,
    IPSet,
    LocalService,
    PortMapping,
    Protocol,
    Scopes,
    Service,
    ServiceKey,
)

_PORT = re.compile(
    r"(?:(?P<name>[^=]+)=)?(?P<port>\d+)(?::(?P<target>\w[\w-]*))?(?:/(?P<protocol>\w+))?(?:@(?P<node>\d+))?"
)
_EVERY_FAMILY = 3


def key(text: str) -> ServiceKey:
    """``namespace/name`` as a key."""
    namespace, _, name = text.partition("/")
    return ServiceKey(namespace, name)


def port(text: str) -> PortMapping:
    """``[NAME=]PORT[:TARGET][/PROTOCOL][@NODEPORT]``, for example ``"web=80:8080/TCP@30080"`` or ``"53/UDP"``.

    TARGET is a number or a name; without one it is PORT.
    """
    match = _PORT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not [NAME=]PORT[:TARGET][/PROTOCOL][@NODEPORT]")
    target = match["target"] or match["port"]
    named = not target.isdigit()
    return PortMapping(
        port=int(match["port"]),
        protocol=Protocol[match["protocol"] or "TCP"],
        name=match["name"] or "",
        node_port=int(match["node"] or 0),
        target_port=0 if named else int(target),
        target_port_name=target if named else "",
        available=_EVERY_FAMILY,
    )


def ports(text: str) -> tuple[PortMapping, ...]:
    """Several of `port`, separated by blanks."""
    return tuple(map(port, text.split()))


def service(text: str, *cluster_ips: str, ports: str = "80:8080/TCP", **fields: Any) -> Service:
    """A Service ``namespace/name`` with its cluster IPs, ports as in `port`, and any field of `Service`.

    All its ports are `available`, as if some endpoint in the cluster served them in both families.
    """
    namespace, name = key(text)
    mappings = tuple(map(port, ports.split()))
    return Service(namespace=namespace, name=name, cluster_ips=IPSet.of(cluster_ips), ports=mappings, **fields)


def _endpoint_ports(port: int | str | Mapping[str, int]) -> tuple[EndpointPort, ...]:
    """A number, or ``"http=8080 dns=53/UDP"``, or a mapping of names to numbers (TCP)."""
    if isinstance(port, int):
        return (EndpointPort("", port),) if port else ()
    if isinstance(port, str):
        return tuple(EndpointPort(p.name, p.port, p.protocol) for p in ports(port))
    return tuple(EndpointPort(name, number) for name, number in port.items())


def endpoint(
    *addresses: str,
    port: int | str | Mapping[str, int] = 8080,
    internal: bool = True,
    external: bool = True,
    local: bool = False,
    hostname: str = "",
) -> Endpoint:
    """An endpoint as one node may use it. ``port``: a number, ``"http=8080 dns=53/UDP"``, or names to numbers."""
    return Endpoint(
        addresses=IPSet.of(addresses),
        ports=_endpoint_ports(port),
        scopes=Scopes(internal, external),
        local=local,
        hostname=hostname,
    )


def endpoint_info(*addresses: str, port: int | str | Mapping[str, int] = 8080, **fields: Any) -> EndpointInfo:
    """An endpoint as the cluster has it, with any field of `EndpointInfo`; ``port`` as for `endpoint`."""
    return EndpointInfo(addresses=IPSet.of(addresses), ports=_endpoint_ports(port), **fields)


def local_service(service: Service, *endpoints: Endpoint, **named: Endpoint) -> LocalService:
    """A service and its endpoints; those without a name get ``"0"``, ``"1"``, ... as keys."""
    return LocalService(service, {str(i): e for i, e in enumerate(endpoints)} | named)
