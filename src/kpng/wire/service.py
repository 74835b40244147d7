"""Services: model <-> protobuf."""

from __future__ import annotations

from kpng.model import (
    IPSet,
    PortMapping,
    Protocol,
    Service,
    check_name,
    check_port_name,
    check_service_type,
    parse_cidr,
)

from .lenient import Faults
from .proto import localv1_pb2 as localv1

DEFAULT_AFFINITY_SECONDS = 10800
"""Kubernetes' default for ClientIP affinity without a timeout (core/v1 DefaultClientIPServiceAffinitySeconds)."""


def addresses_to_wire(addresses: IPSet) -> localv1.IPSet:
    return localv1.IPSet(V4=addresses.v4, V6=addresses.v6)


def service_to_wire(service: Service) -> localv1.Service:
    ips = localv1.ServiceIPs(
        ClusterIPs=addresses_to_wire(service.cluster_ips),
        ExternalIPs=addresses_to_wire(service.external_ips),
        LoadBalancerIPs=addresses_to_wire(service.load_balancer_ips),
        Headless=service.headless,
    )
    message = localv1.Service(
        Namespace=service.namespace,
        Name=service.name,
        Type=service.type,
        IPs=ips,
        Ports=[_port_to_wire(port) for port in service.ports],
        ExternalTrafficToLocal=service.external_traffic_local,
        InternalTrafficToLocal=service.internal_traffic_local,
        HealthCheckNodePort=service.health_check_node_port,
        Labels=service.labels,
        Annotations=service.annotations,
    )
    if service.source_ranges:
        message.IPFilters.add(SourceRanges=service.source_ranges)
    if service.session_affinity_seconds:
        message.ClientIP.TimeoutSeconds = service.session_affinity_seconds
    return message


def service_from_wire(message: localv1.Service, faults: Faults) -> Service | None:
    """None where there is no name that can be used; other faults cost only their field."""
    if not (message.Namespace and message.Name):
        faults.add("metadata.name", "a service needs a namespace and a name")
    namespace = faults.name(check_name, message.Namespace, "metadata.namespace")
    name = faults.name(check_name, message.Name, "metadata.name")
    if not (namespace and name):
        return None
    ips = message.IPs
    ranges = [text for ip_filter in message.IPFilters for text in ip_filter.SourceRanges]
    good_ranges = faults.texts(ranges, "spec.loadBalancerSourceRanges", parse_cidr)
    # ranges of which none can be read must not turn into "everybody"
    fenced = not ranges or bool(good_ranges)
    balancers = faults.addresses([*ips.LoadBalancerIPs.V4, *ips.LoadBalancerIPs.V6], "status.loadBalancer")
    ports = (_port_from_wire(port, index, faults) for index, port in enumerate(message.Ports))
    return Service(
        namespace=namespace,
        name=name,
        type=faults.name(check_service_type, message.Type, "spec.type"),
        cluster_ips=faults.addresses([*ips.ClusterIPs.V4, *ips.ClusterIPs.V6], "spec.clusterIPs"),
        external_ips=faults.addresses([*ips.ExternalIPs.V4, *ips.ExternalIPs.V6], "spec.externalIPs"),
        load_balancer_ips=balancers if fenced else IPSet(),
        headless=ips.Headless,
        ports=tuple(port for port in ports if port),
        internal_traffic_local=message.InternalTrafficToLocal,
        external_traffic_local=message.ExternalTrafficToLocal,
        session_affinity_seconds=_affinity(message),
        source_ranges=good_ranges,
        health_check_node_port=faults.port(message.HealthCheckNodePort, "spec.healthCheckNodePort", optional=True),
        labels=dict(message.Labels),
        annotations=dict(message.Annotations),
    )


def protocol_to_wire(protocol: Protocol) -> localv1.Protocol.ValueType:
    """The model's numbers are the wire's."""
    return localv1.Protocol.ValueType(protocol)


def protocol_from_wire(number: int, field: str, faults: Faults) -> Protocol | None:
    """None (and a fault) where the number is none of ours."""
    try:
        return Protocol(number)
    except ValueError:
        faults.add(field, f"{number} is not a protocol")
        return None


def _affinity(message: localv1.Service) -> int:
    if not message.HasField("ClientIP"):
        return 0
    seconds = message.ClientIP.TimeoutSeconds
    return seconds if seconds > 0 else DEFAULT_AFFINITY_SECONDS


def _port_to_wire(port: PortMapping) -> localv1.PortMapping:
    return localv1.PortMapping(
        Name=port.name,
        Protocol=protocol_to_wire(port.protocol),
        Port=port.port,
        NodePort=port.node_port,
        TargetPort=port.target_port,
        TargetPortName=port.target_port_name,
        Available=port.available,
    )


def _port_from_wire(message: localv1.PortMapping, index: int, faults: Faults) -> PortMapping | None:
    where = f"spec.ports[{index}]"
    number = faults.port(message.Port, f"{where}.port")
    protocol = protocol_from_wire(message.Protocol, f"{where}.protocol", faults)
    name = faults.name(check_port_name, message.Name, f"{where}.name")
    target_name = faults.name(check_port_name, message.TargetPortName, f"{where}.targetPort")
    if not number or protocol is None or name != message.Name or target_name != message.TargetPortName:
        return None
    return PortMapping(
        port=number,
        # unset in a Go state file; Kubernetes' default
        protocol=protocol or Protocol.TCP,
        name=name,
        node_port=faults.port(message.NodePort, f"{where}.nodePort", optional=True),
        target_port=faults.port(message.TargetPort, f"{where}.targetPort", optional=True),
        target_port_name=target_name,
        available=message.Available,
    )
