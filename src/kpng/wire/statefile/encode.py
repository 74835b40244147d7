"""The global state -> a state file's YAML text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from kpng.model import EndpointInfo, IPSet, Node, PortMapping, Protocol, Service, ServiceKey
from kpng.wire.yaml import write_yaml

from . import schema
from .decode import complete_ports
from .state import State


def encode_state(state: State) -> str:
    """The state as YAML text: the same text for the same state, in key order.

    Endpoints of services that are not there are left out: the schema has no place for them, and nobody uses them.
    """
    sources: dict[ServiceKey, list[str]] = {}
    for (_, name), source in sorted(state.sources.items()):
        sources.setdefault(source.service, []).append(name)
    document: dict[str, Any] = {
        "nodes": [_plain(_node(state.nodes[name])) for name in sorted(state.nodes)],
        "services": [_service_entry(state, key, sources.get(key, ())) for key in sorted(state.services)],
    }
    if state.service_cidrs:
        named = sorted(state.service_cidrs.items())
        document["servicecidrs"] = [
            _plain(schema.ServiceCIDR(name=name, cidrs=list(cidrs))) for name, cidrs in named
        ]
    return write_yaml(document)


def _service_entry(state: State, key: ServiceKey, names: Iterable[str]) -> dict[str, object]:
    service = state.services[key]
    endpoints = [
        _plain(_endpoint(endpoint, name, service))
        for name in names
        for endpoint in state.sources[key.namespace, name].endpoints
    ]
    return {"service": _plain(_service(service)), "endpoints": endpoints}


def _plain(struct: Struct) -> object:
    return msgspec.to_builtins(struct)


def _service(service: Service) -> schema.Service:
    seconds = service.session_affinity_seconds
    affinity = schema.SessionAffinity(clientip=schema.ClientIP(timeoutseconds=seconds)) if seconds else None
    filters = [schema.IPFilter(sourceranges=list(service.source_ranges))] if service.source_ranges else None
    return schema.Service(
        namespace=service.namespace,
        name=service.name,
        type=service.type,
        labels=_labels(service.labels),
        annotations=_labels(service.annotations),
        ips=schema.ServiceIPs(
            clusterips=_ips(service.cluster_ips),
            externalips=_ips(service.external_ips),
            loadbalancerips=_ips(service.load_balancer_ips),
            headless=service.headless or None,
        ),
        ipfilters=filters,
        ports=[_port(mapping) for mapping in service.ports],
        externaltraffictolocal=service.external_traffic_local or None,
        internaltraffictolocal=service.internal_traffic_local or None,
        healthchecknodeport=service.health_check_node_port or None,
        sessionaffinity=affinity,
    )


def _labels(labels: Mapping[str, str]) -> dict[str, str | None] | None:
    return {key: labels[key] for key in sorted(labels)} or None


def _ips(ips: IPSet) -> schema.IPs:
    return schema.IPs(v4=list(ips.v4) or None, v6=list(ips.v6) or None)


def _port(mapping: PortMapping) -> schema.Port:
    return schema.Port(
        name=mapping.name or None,
        protocol=int(mapping.protocol),
        port=mapping.port,
        nodeport=mapping.node_port or None,
        targetport=mapping.target_port or None,
        targetportname=mapping.target_port_name or None,
    )


def _endpoint(endpoint: EndpointInfo, source: str, service: Service) -> schema.EndpointInfo:
    return schema.EndpointInfo(
        sourcename=source,
        podname=endpoint.pod_name or None,
        endpoint=schema.Endpoint(
            hostname=endpoint.hostname or None,
            ips=_ips(endpoint.addresses),
            portoverrides=_overrides(endpoint, service) or None,
        ),
        conditions=schema.Conditions(
            ready=endpoint.ready,
            serving=None if endpoint.serving else False,
            terminating=endpoint.terminating or None,
        ),
        topology=schema.Topology(node=endpoint.node or None, zone=endpoint.zone or None),
        hints=_hints(endpoint),
    )


def _overrides(endpoint: EndpointInfo, service: Service) -> list[schema.PortOverride]:
    """Go's form where it says all; where its rule for left-out ports would read something else back, with the
    protocols, which makes the list complete (`complete_ports`)."""
    plain = [schema.PortOverride(name=port.name, port=port.port) for port in endpoint.ports]
    if complete_ports([(p.name, p.port, None) for p in endpoint.ports], service.ports) == endpoint.ports:
        return plain
    return [
        schema.PortOverride(name=p.name, port=p.port, protocol=Protocol(p.protocol).name) for p in endpoint.ports
    ]


def _hints(endpoint: EndpointInfo) -> schema.Hints | None:
    if not endpoint.zone_hints and not endpoint.node_hints:
        return None
    return schema.Hints(zones=list(endpoint.zone_hints) or None, nodes=list(endpoint.node_hints) or None)


def _node(node: Node) -> schema.Node:
    return schema.Node(
        name=node.name,
        topology=schema.Topology(node=node.name, zone=node.zone or None),
        labels=_labels(node.labels),
        annotations=_labels(node.annotations),
        ips=_ips(node.addresses) if node.addresses else None,
        podcidrs=list(node.pod_cidrs) or None,
        ineligible=not node.eligible or None,
    )
