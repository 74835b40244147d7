"""From a scenario to the manifests that a cluster would hold."""

from __future__ import annotations

from collections.abc import Iterator

from .endpoints import endpoint_of
from .flows import NodeFacts, Object, Scenario

ZONE_LABEL = "topology.kubernetes.io/zone"


def manifests(scenario: Scenario) -> Object:
    """A List of everything that the scenario's cluster holds."""
    return _list([*_cluster(scenario), *map(_slice, scenario.endpointslices)])


def manifests_with_only(scenario: Scenario, endpoint: str) -> Object:
    """The same cluster while each service had one endpoint, HOST:PORT: whoever asks then is sent there."""
    host, port = endpoint_of(endpoint)
    slices = []
    for number, service in enumerate(scenario.services):
        ports = [{**_port_identity(each), "port": port} for each in service.get("spec", {}).get("ports", ())]
        metadata = service.get("metadata", {})
        slices.append(
            _slice(
                {
                    "metadata": {
                        "name": f"only-{number}",
                        "namespace": metadata.get("namespace"),
                        "labels": {"kubernetes.io/service-name": metadata.get("name")},
                    },
                    "addressType": "IPv6" if ":" in host else "IPv4",
                    "endpoints": [{"addresses": [host], "nodeName": _node_of(scenario, host)}],
                    "ports": ports,
                }
            )
        )
    return _list([*_cluster(scenario), *slices])


def _cluster(scenario: Scenario) -> Iterator[Object]:
    """Everything but endpoints."""
    yield _node(scenario.node)
    if scenario.node.service_cidrs:
        yield _service_cidr(scenario.node.service_cidrs)
    for service in scenario.services:
        yield {"apiVersion": "v1", "kind": "Service", **service}


def _list(items: list[Object]) -> Object:
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _slice(given: Object) -> Object:
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", **given}


def _node(facts: NodeFacts) -> Object:
    labels = {"kubernetes.io/hostname": facts.name} | ({ZONE_LABEL: facts.zone} if facts.zone else {})
    detect = facts.detect_local
    cidrs = [detect.value] if detect.mode == "NodeCIDR" else []
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": facts.name, "labels": labels},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs} if cidrs else {},
        "status": {"addresses": [{"type": "InternalIP", "address": facts.primary_ip}]},
    }


def _service_cidr(cidrs: tuple[str, ...]) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": list(cidrs)},
    }


def _port_identity(port: Object) -> Object:
    return {key: port[key] for key in ("name", "protocol") if key in port}


def _node_of(scenario: Scenario, host: str) -> str:
    """The node that this endpoint is on, where the scenario knows it."""
    for given in scenario.endpointslices:
        for endpoint in given.get("endpoints") or ():
            if host in endpoint.get("addresses", ()) and endpoint.get("nodeName"):
                return str(endpoint["nodeName"])
    return "another-node"
