"""The Kubernetes objects the lab's API server is filled with, made from the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from kpng.model import FAMILIES, ZONE_LABEL, Family

from .services import ECHO_TCP, ECHO_UDP, HTTP, SERVICE_PORTS, SERVICES, ServicePlan
from .topology import NodePlan, PodPlan, Topology

Object = dict[str, Any]

NAMESPACE = "default"
AFFINITY_SECONDS = 10800
_PORTS = (("http", "TCP", HTTP), ("echo-tcp", "TCP", ECHO_TCP), ("echo-udp", "UDP", ECHO_UDP))


def all_objects(topology: Topology) -> dict[str, list[Object]]:
    """Every object, by the file it goes into."""
    return {
        "nodes": [node_object(node) for node in topology.nodes],
        "pods": [pod_object(topology, pod) for pod in topology.pods],
        "services": [service_object(service) for service in SERVICES],
        "endpointslices": [
            _example_slice(topology, service, family)
            for service in SERVICES
            for family in FAMILIES
            if topology.pods_of(service.app) and service.app
        ],
    }


def write(topology: Topology, folder: Path) -> None:
    """Write the objects as YAML files, for the API server to load and for people to read."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, objects in all_objects(topology).items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump_all(objects, sort_keys=False))


def node_object(node: NodePlan) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": {"kubernetes.io/hostname": node.name, ZONE_LABEL: node.zone},
        },
        "spec": {"podCIDR": node.pod_cidrs.ipv4, "podCIDRs": list(node.pod_cidrs.both)},
        "status": {
            "addresses": [
                *({"type": "InternalIP", "address": address} for address in node.addresses.both),
                {"type": "Hostname", "address": node.name},
            ],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod_object(topology: Topology, pod: PodPlan) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": NAMESPACE, "labels": {"app": pod.app or pod.name}},
        "spec": {
            "nodeName": pod.node,
            "containers": [
                {
                    "name": "server",
                    "image": "kpng.lab.pods",
                    "ports": [
                        {"name": name, "protocol": protocol, "containerPort": port}
                        for name, protocol, port in _PORTS
                    ],
                }
            ],
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "hostIP": topology.node(pod.node).addresses.ipv4,
            "podIP": pod.addresses.ipv4,
            "podIPs": [{"ip": address} for address in pod.addresses.both],
        },
    }


def service_object(service: ServicePlan) -> Object:
    spec: Object = {
        "type": service.type,
        "clusterIP": service.cluster_ips.ipv4,
        "clusterIPs": list(service.cluster_ips.both),
        "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "RequireDualStack",
        "internalTrafficPolicy": service.internal_policy,
        "ports": [_service_port(service, *port) for port in enumerate(_PORTS)],
    }
    if service.app:
        spec["selector"] = {"app": service.app}
    if service.type != "ClusterIP":
        spec["externalTrafficPolicy"] = service.external_policy
    if service.health_check_port:
        spec["healthCheckNodePort"] = service.health_check_port
    if service.external_ips:
        spec["externalIPs"] = list(service.external_ips.both)
    if service.zone_hints:
        spec["trafficDistribution"] = "PreferSameZone"
    if service.affinity:
        spec["sessionAffinity"] = "ClientIP"
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}
    made: Object = {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(service.name), "spec": spec}
    if service.load_balancer:
        made["status"] = {"loadBalancer": {"ingress": [{"ip": ip} for ip in service.load_balancer.both]}}
    return made


def _service_port(service: ServicePlan, index: int, port: tuple[str, str, int]) -> Object:
    name, protocol, _ = port
    made: Object = {"name": name, "protocol": protocol, "port": SERVICE_PORTS[name], "targetPort": name}
    return made | ({"nodePort": service.node_port + index} if service.node_port else {})


def _example_slice(topology: Topology, service: ServicePlan, family: Family) -> Object:
    made = slice_object(topology, service.name, topology.pods_of(service.app), family)
    if service.zone_hints:  # what the EndpointSlice controller makes of the service's trafficDistribution
        for found in made["endpoints"]:
            found["hints"] = {"forZones": [{"name": found["zone"]}]}
    return made


def slice_object(topology: Topology, service: str, pods: tuple[PodPlan, ...], family: Family) -> Object:
    """The EndpointSlice of one family, with these pods as ready endpoints."""
    metadata = _metadata(f"{service}-{family.name.lower()}")
    metadata["labels"] = {"kubernetes.io/service-name": service}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4" if family is Family.IPV4 else "IPv6",
        "ports": [{"name": name, "protocol": protocol, "port": port} for name, protocol, port in _PORTS],
        "endpoints": [endpoint(topology, pod, family) for pod in pods],
    }


def endpoint(topology: Topology, pod: PodPlan, family: Family, *, terminating: bool = False) -> Object:
    """One endpoint of a slice; a terminating one still serves (KEP-1672)."""
    return {
        "addresses": [pod.addresses.of(family)],
        "conditions": {"ready": not terminating, "serving": True, "terminating": terminating},
        "nodeName": pod.node,
        "zone": topology.node(pod.node).zone,
        "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": pod.name},
    }


def _metadata(name: str) -> Object:
    return {"name": name, "namespace": NAMESPACE}
