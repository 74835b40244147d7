"""Endpoints, as one node may use them (local) and as the cluster has them (global): model <-> protobuf."""

from __future__ import annotations

from collections.abc import Iterable

from kpng.model import (
    Endpoint,
    EndpointInfo,
    EndpointPort,
    IPSet,
    Protocol,
    Scopes,
    check_endpoint_address,
    check_name,
    check_port_name,
    check_zone,
)

from .lenient import Faults
from .proto import globalv1_pb2 as globalv1
from .proto import localv1_pb2 as localv1
from .service import addresses_to_wire, protocol_to_wire

_PROTOCOLS: dict[int, tuple[Protocol, ...]] = {
    # a Go brain tells none: its port holds for each, as only the one the service has is ever asked for
    Protocol.UNKNOWN: (Protocol.TCP, Protocol.UDP, Protocol.SCTP),
    Protocol.TCP: (Protocol.TCP,),
    Protocol.UDP: (Protocol.UDP,),
    Protocol.SCTP: (Protocol.SCTP,),
}


def endpoint_to_wire(endpoint: Endpoint) -> localv1.Endpoint:
    return localv1.Endpoint(
        Hostname=endpoint.hostname,
        IPs=addresses_to_wire(endpoint.addresses),
        Local=endpoint.local,
        PortOverrides=_ports_to_wire(endpoint.ports),
        Scopes=localv1.EndpointScopes(Internal=endpoint.scopes.internal, External=endpoint.scopes.external),
    )


def endpoint_from_wire(message: localv1.Endpoint, faults: Faults) -> Endpoint | None:
    """None where no address or no port is usable."""
    reach = _reach(message, faults)
    if reach is None:
        return None
    # absent only where somebody else wrote the server: then nothing limits the endpoint
    scopes = Scopes(message.Scopes.Internal, message.Scopes.External) if message.HasField("Scopes") else Scopes()
    addresses, ports = reach
    hostname = faults.name(check_name, message.Hostname, "hostname")
    return Endpoint(addresses=addresses, ports=ports, scopes=scopes, local=message.Local, hostname=hostname)


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
        zone_hints=tuple(sorted(faults.texts(message.Hints.Zones, "hints.forZones", check_zone))),
        node_hints=tuple(sorted(faults.texts(message.Hints.Nodes, "hints.forNodes", check_name))),
    )


def _reach(message: localv1.Endpoint, faults: Faults) -> tuple[IPSet, tuple[EndpointPort, ...]] | None:
    """Where the endpoint is reached. That it names no port means something (`Endpoint.ports`), so one whose
    ports are all bad must not come out as one without ports."""
    ips = message.IPs
    addresses = faults.addresses([*ips.V4, *ips.V6], "addresses", check_endpoint_address)
    ports: list[EndpointPort] = []
    for index, port in enumerate(message.PortOverrides):
        ports += _port_from_wire(port, f"ports[{index}]", faults)
    if not addresses:
        faults.add("addresses", "no usable address, endpoint left out")
        return None
    if not ports and message.PortOverrides:
        faults.add("ports", "no usable port, endpoint left out")
        return None
    return addresses, tuple(ports)


def _ports_to_wire(ports: tuple[EndpointPort, ...]) -> list[localv1.PortName]:
    return [
        localv1.PortName(Name=port.name, Port=port.port, Protocol=protocol_to_wire(port.protocol)) for port in ports
    ]


def _port_from_wire(message: localv1.PortName, where: str, faults: Faults) -> Iterable[EndpointPort]:
    """The port, once for each protocol it stands for."""
    number = faults.port(message.Port, where)
    protocols = _PROTOCOLS.get(message.Protocol)
    if protocols is None:
        faults.add(where, f"{message.Protocol} is not a protocol")
    name = faults.name(check_port_name, message.Name, where)
    if not number or protocols is None or name != message.Name:
        return ()
    return [EndpointPort(name, number, protocol) for protocol in protocols]
