"""Endpoints: as the cluster has them (`EndpointInfo`) and as one node may use them (`Endpoint`)."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from .addresses import IPSet
from .service import PortMapping, Protocol, ServiceKey


class EndpointPort(Struct, frozen=True, gc=False, omit_defaults=True):
    """A port that an endpoint really listens on; ``name`` is the *service* port's name (EndpointSlice rule)."""

    name: str
    port: int
    protocol: Protocol = Protocol.TCP


class Scopes(Struct, frozen=True, gc=False, omit_defaults=True):
    """For which new connections a node may use an endpoint: internal (to cluster IPs), external (everything else).
    One without any scope gets none: it only finishes the UDP flows that it has.

    ``short_circuit``: external traffic that begins inside the cluster (at a pod, at the node itself), of a service
    with externalTrafficPolicy Local. Such traffic does not go out and come back, but uses what the Cluster policy
    would; so nobody in the cluster is cut off from an address that only some nodes serve. Never set otherwise.
    """

    internal: bool = True
    external: bool = True
    short_circuit: bool = False


class Endpoint(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """One endpoint as one node sees it (local state): already chosen, nothing left to decide.

    ``ports`` empty means that the endpoint came without ports (a Go kpng state file): then the service's
    own target port holds. ``local``: it runs on this node. ``terminating``: it is not ready, but still serves, and
    is used because nothing is ready (KEP-1669).
    """

    addresses: IPSet
    ports: tuple[EndpointPort, ...] = ()
    scopes: Scopes = Scopes()
    local: bool = False
    terminating: bool = False
    hostname: str = ""

    def port_for(self, mapping: PortMapping) -> int:
        """The port number this endpoint serves ``mapping`` on; 0 if it does not."""
        return resolve_port(self.ports, mapping)


def resolve_port(ports: tuple[EndpointPort, ...], mapping: PortMapping) -> int:
    """The number of `match_port`; 0 if there is none."""
    port = match_port(ports, mapping)
    return port.port if port else 0


def match_port(ports: tuple[EndpointPort, ...], mapping: PortMapping) -> EndpointPort | None:
    """Match by name and protocol, never by number (EndpointSlice API); see `Endpoint.ports` for the empty case."""
    if not ports:
        number = mapping.target_port or (0 if mapping.target_port_name else mapping.port)
        return EndpointPort(mapping.name, number, mapping.protocol) if number else None
    for port in ports:
        if port.name == mapping.name and port.protocol == mapping.protocol:
            return port if port.port else None
    return None


def protocols_of(name: str, mappings: Iterable[PortMapping]) -> list[Protocol]:
    """What a port of this name stands for where nobody says its protocol (Go kpng): those the service has."""
    return [mapping.protocol for mapping in mappings if mapping.name == name] or [Protocol.TCP]


class EndpointInfo(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """One endpoint as the cluster has it (global state), from one source (an EndpointSlice, a state file).

    Readiness, as the EndpointSlice API defines it with its defaults applied: ``ready``; ``serving`` and
    ``terminating`` (KEP-1669). ``zone_hints`` and ``node_hints``: see KEP-2433 and KEP-3015, sorted.
    """

    addresses: IPSet
    ports: tuple[EndpointPort, ...] = ()
    hostname: str = ""
    pod_name: str = ""
    node: str = ""
    zone: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()


class EndpointSource(Struct, frozen=True, gc=False):
    """All endpoints of one source, of one service. The unit in which endpoints are set and deleted."""

    service: ServiceKey
    endpoints: tuple[EndpointInfo, ...]
