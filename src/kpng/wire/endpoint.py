"""Endpoints, as one node may use them (local) and as the cluster has them (global): model <-> protobuf."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from kpng.model import (
    Endpoint,
    EndpointInfo,
    EndpointPort,
    IPSet,
    PortMapping,
    Protocol,
    Scopes,
    check_endpoint_address,
    check_name,
    check_port_name,
    check_zone,
    protocols_of,
)

from .lenient import Faults
from .proto import globalv1_pb2 as globalv1
from .proto import localv1_pb2 as localv1
from .service import addresses_to_wire, protocol_from_wire, protocol_to_wire


def endpoint_to_wire(endpoint: Endpoint) -> localv1.Endpoint:
    return localv1.Endpoint(
        Hostname=endpoint.hostname,
        IPs=addresses_to_wire(endpoint.addresses),
        Local=endpoint.local,
        PortOverrides=_ports_to_wire(endpoint.ports),
        Scopes=localv1.EndpointScopes(
            Internal=endpoint.scopes.internal,
            External=endpoint.scopes.external,
            ShortCircuit=endpoint.scopes.short_circuit,
        ),
        Terminating=endpoint.terminating,
    )


def endpoint_from_wire(message: localv1.Endpoint, faults: Faults) -> Endpoint | None:
    """None where no address or no port is usable."""
    reach = _reach(message, faults)
    if reach is None:
        return None
    # absent only where somebody else wrote the server: then nothing limits the endpoint
    said = message.Scopes
    scopes = Scopes(said.Internal, said.External, said.ShortCircuit) if message.HasField("Scopes") else Scopes()
    addresses, ports = reach
    return Endpoint(
        addresses=addresses,
        ports=ports,
        scopes=scopes,
        local=message.Local,
        terminating=message.Terminating,
        hostname=faults.name(check_name, message.Hostname, "hostname"),
    )


def endpoint_info_to_wire(info: EndpointInfo) -> globalv1.EndpointInfo:
    """Everything of the endpoint itself; whose it is, and the hash, are the caller's to fill in."""
    message = globalv1.EndpointInfo(
        Endpoint=localv1.Endpoint(
            Hostname=info.hostname, IPs=addresses_to_wire(info.addresses), PortOverrides=_ports_to_wire(info.ports)
        ),
        Conditions=globalv1.EndpointConditions(Ready=info.ready),
        PodName=info.pod_name,
        Topology=globalv1.TopologyInfo(Node=info.node, Zone=info.zone),
    )
    if info.serving != info.ready:
        message.Conditions.Serving = info.serving
    if info.terminating:
        message.Conditions.Terminating = True
    if info.zone_hints or info.node_hints:
        message.Hints.Zones.extend(info.zone_hints)
        message.Hints.Nodes.extend(info.node_hints)
    return message


def endpoint_info_from_wire(message: globalv1.EndpointInfo, faults: Faults) -> EndpointInfo | None:
    """None where no address or no port is usable."""
    reach = _reach(message.Endpoint, faults)
    if reach is None:
        return None
    addresses, ports = reach
    conditions = message.Conditions
    ready = conditions.Ready if message.HasField("Conditions") else True
    return EndpointInfo(
        addresses=addresses,
        ports=ports,
        hostname=faults.name(check_name, message.Endpoint.Hostname, "hostname"),
        pod_name=faults.name(check_name, message.PodName, "targetRef.name"),
        node=faults.name(check_name, message.Topology.Node, "nodeName"),
        zone=faults.name(check_zone, message.Topology.Zone, "zone"),
        ready=ready,
        serving=conditions.Serving if conditions.HasField("Serving") else ready,
        terminating=conditions.Terminating,
        zone_hints=_hints(message.Hints.Zones, "hints.forZones", check_zone, faults),
        node_hints=_hints(message.Hints.Nodes, "hints.forNodes", check_name, faults),
    )


def _hints(texts: Sequence[str], field: str, check: Callable[[str, str], str], faults: Faults) -> tuple[str, ...]:
    return tuple(sorted(faults.texts(texts, field, check))) if texts else ()


def _reach(message: localv1.Endpoint, faults: Faults) -> tuple[IPSet, tuple[EndpointPort, ...]] | None:
    """Where the endpoint is reached. That it names no port means something (`Endpoint.ports`), so one whose
    ports are all bad must not come out as one without ports."""
    ips = message.IPs
    addresses = faults.addresses([*ips.V4, *ips.V6], "addresses", check_endpoint_address)
    ports = _ports_from_wire(message.PortOverrides, faults)
    if not addresses:
        faults.add("addresses", "no usable address, endpoint left out")
        return None
    if not ports and message.PortOverrides:
        faults.add("ports", "no usable port, endpoint left out")
        return None
    return addresses, ports


def _ports_to_wire(ports: tuple[EndpointPort, ...]) -> list[localv1.PortName]:
    return [
        localv1.PortName(Name=port.name, Port=port.port, Protocol=protocol_to_wire(port.protocol)) for port in ports
    ]


def _ports_from_wire(messages: Sequence[localv1.PortName], faults: Faults) -> tuple[EndpointPort, ...]:
    if (known := _good_ports(*[(port.Name, port.Port, port.Protocol) for port in messages])) is not None:
        return known
    found = (_port_from_wire(port, f"ports[{index}]", faults) for index, port in enumerate(messages))
    return tuple(port for port in found if port)


@lru_cache(maxsize=1024)
def _good_ports(*ports: tuple[str, int, int]) -> tuple[EndpointPort, ...] | None:
    """The ports, one object for all endpoints that have them; None where one has a fault, which is to be named."""
    faults = Faults("")
    messages = [localv1.PortName(Name=name, Port=port, Protocol=number) for name, port, number in ports]  # type: ignore[arg-type]
    found = tuple(_port_from_wire(message, "", faults) for message in messages)
    return None if faults.problems else tuple(port for port in found if port)


def _port_from_wire(message: localv1.PortName, where: str, faults: Faults) -> EndpointPort | None:
    """The port. A Go brain tells no protocol: then it is UNKNOWN, until the service is known (`close_ports`)."""
    number = faults.port(message.Port, where)
    protocol = protocol_from_wire(message.Protocol, where, faults)
    name = faults.name(check_port_name, message.Name, where)
    if not number or protocol is None or name != message.Name:
        return None
    return EndpointPort(name, number, protocol)


def is_open(ports: Iterable[EndpointPort]) -> bool:
    """Whether a port stands for all protocols of its service."""
    for port in ports:  # noqa: SIM110 -- asked for every endpoint, and three times as fast as any() is
        if port.protocol is Protocol.UNKNOWN:
            return True
    return False


def close_ports(ports: Iterable[EndpointPort], mappings: Sequence[PortMapping]) -> tuple[EndpointPort, ...]:
    """The ports, each once for every protocol it stands for."""
    closed = {}
    for port in ports:
        known = port.protocol is not Protocol.UNKNOWN
        for protocol in [port.protocol] if known else protocols_of(port.name, mappings):
            closed[port.name, protocol] = EndpointPort(port.name, port.port, protocol)
    return tuple(closed.values())
