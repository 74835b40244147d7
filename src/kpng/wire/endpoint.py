"""Endpoints, as one node may use them (local) and as the cluster has them (global): model <-> protobuf."""

from __future__ import annotations

from collections.abc import Iterator

from kpng.model import Endpoint, EndpointInfo, EndpointPort, IPSet, Protocol, Scopes, check_endpoint_address

from .lenient import Faults
from .proto import globalv1_pb2 as globalv1
from .proto import localv1_pb2 as localv1
from .service import addresses_to_wire, protocol_from_wire, protocol_to_wire

_ANY_PROTOCOL = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)


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
    return Endpoint(addresses=addresses, ports=ports, scopes=scopes, local=message.Local, hostname=message.Hostname)


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
        hostname=message.Endpoint.Hostname,
        pod_name=message.PodName,
        node=message.Topology.Node,
        zone=message.Topology.Zone,
        ready=ready,
        serving=conditions.Serving if conditions.HasField("Serving") else ready,
        terminating=conditions.Terminating,
        zone_hints=tuple(sorted(message.Hints.Zones)),
        node_hints=tuple(sorted(message.Hints.Nodes)),
    )


def _reach(message: localv1.Endpoint, faults: Faults) -> tuple[IPSet, tuple[EndpointPort, ...]] | None:
    """Where the endpoint is reached. That it names no port means something (`Endpoint.ports`), so one whose
    ports are all bad must not come out as one without ports."""
    addresses = faults.addresses([*message.IPs.V4, *message.IPs.V6], "addresses", check_endpoint_address)
    ports = tuple(
        port for index, name in enumerate(message.PortOverrides) for port in _ports_from_wire(name, index, faults)
    )
    if not addresses:
        faults.add("addresses", "no usable address, endpoint left out")
        return None
    if message.PortOverrides and not ports:
        faults.add("ports", "no usable port, endpoint left out")
        return None
    return addresses, ports


def _ports_to_wire(ports: tuple[EndpointPort, ...]) -> list[localv1.PortName]:
    return [
        localv1.PortName(Name=port.name, Port=port.port, Protocol=protocol_to_wire(port.protocol)) for port in ports
    ]


def _ports_from_wire(message: localv1.PortName, index: int, faults: Faults) -> Iterator[EndpointPort]:
    """A Go brain tells no protocol; its port then holds for each, as only the one the service has is asked for."""
    number = faults.port(message.Port, f"ports[{index}].port")
    protocol = protocol_from_wire(message.Protocol, f"ports[{index}].protocol", faults)
    if not number or protocol is None:
        return
    for each in (protocol,) if protocol else _ANY_PROTOCOL:
        yield EndpointPort(message.Name, number, each)
