"""The Kubernetes objects of a shape, as plain dicts that an API server takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, NamedTuple

from kpng.model import ZONE_LABEL

from .shape import Shape

Object = dict[str, Any]
"""One API object, as JSON has it."""

MANAGER = "kpng-load"
MANAGED_BY = "app.kubernetes.io/managed-by"
INSTANCE = "app.kubernetes.io/instance"
FIRST_PORT, FIRST_TARGET_PORT = 80, 8080


class State(Enum):
    """Where a pod is in its life, as an endpoint's conditions tell (KEP-1672)."""

    READY = (True, True, False)
    STARTING = (False, False, False)
    TERMINATING = (False, True, True)

    @property
    def conditions(self) -> dict[str, bool]:
        return dict(zip(("ready", "serving", "terminating"), self.value, strict=True))


class Pod(NamedTuple):
    """One endpoint. Its name, node and address follow from its number."""

    serial: int
    state: State = State.READY


def labels(shape: Shape) -> dict[str, str]:
    """What everything carries that was made for this shape."""
    return {MANAGED_BY: MANAGER, INSTANCE: shape.prefix}


def namespaces(shape: Shape) -> Iterator[Object]:
    for number in range(shape.namespaces):
        metadata = {"name": shape.namespace(number), "labels": labels(shape)}
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def services(shape: Shape) -> Iterator[Object]:
    """The Services, in order. They have no selector, so that no controller makes slices of its own for them."""
    return (service_object(shape, service) for service in range(shape.services))


def endpoint_slices(shape: Shape) -> Iterator[Object]:
    """The EndpointSlices of all services at the start, every endpoint ready."""
    for service in range(shape.services):
        pods = first_pods(shape, service)
        for number, start in enumerate(range(0, max(len(pods), 1), shape.slice_size)):
            for family in shape.families:
                yield slice_object(shape, service, number, pods[start : start + shape.slice_size], family)


def nodes(shape: Shape) -> Iterator[Object]:
    """The Nodes; none if the shape's are there already."""
    if not shape.sites:
        yield from (node_object(shape, node) for node in range(shape.nodes))


def objects(shape: Shape) -> Iterator[Object]:
    """Everything, in an order in which it can be created."""
    yield from namespaces(shape)
    yield from nodes(shape)
    yield from services(shape)
    yield from endpoint_slices(shape)


def first_pods(shape: Shape, service: int) -> list[Pod]:
    """The pods that a service begins with."""
    first = service * shape.endpoints
    return [Pod(serial) for serial in range(first, first + shape.endpoints)]


def service_object(shape: Shape, service: int) -> Object:
    spec: Object = {
        "type": "ClusterIP",
        "ipFamilies": list(shape.families),
        "ipFamilyPolicy": "RequireDualStack" if shape.dual_stack else "SingleStack",
        "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "None",
        "ports": [_service_port(port) for port in range(shape.ports)],
    }
    if shape.cluster_ips:
        addresses = [shape.cluster_ip(service, family) for family in shape.families]
        spec |= {"clusterIP": addresses[0], "clusterIPs": addresses}
    metadata = _metadata(shape, service, shape.service_name(service))
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def slice_object(shape: Shape, service: int, number: int, pods: Sequence[Pod], family: str) -> Object:
    """One slice of a service; ``number`` tells its slices apart."""
    metadata = _metadata(shape, service, shape.slice_name(service, number, family))
    metadata["labels"] |= {
        "endpointslice.kubernetes.io/managed-by": MANAGER,
        "kubernetes.io/service-name": shape.service_name(service),
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": family,
        "ports": [_slice_port(port) for port in range(shape.ports)],
        "endpoints": [endpoint_object(shape, service, pod, family) for pod in pods],
    }


def endpoint_object(shape: Shape, service: int, pod: Pod, family: str) -> Object:
    site = shape.site(shape.node_of(pod.serial))
    made: Object = {
        "addresses": [shape.pod_address(pod.serial, family)],
        "conditions": pod.state.conditions,
        "targetRef": {
            "kind": "Pod",
            "namespace": shape.namespace(service),
            "name": shape.pod_name(service, pod.serial),
        },
        "nodeName": site.name,
    }
    if site.zone:
        made["zone"] = site.zone
    if shape.hints and site.zone and pod.state is State.READY:  # others get none from the controller
        made["hints"] = {"forZones": [{"name": site.zone}]}
    return made


def node_object(shape: Shape, node: int) -> Object:
    name, zone = shape.site(node)
    cidrs = [shape.pod_cidr(node, family) for family in shape.families]
    internal = [{"type": "InternalIP", "address": shape.node_address(node, family)} for family in shape.families]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": labels(shape)
            | {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
            | {ZONE_LABEL: zone, "topology.kubernetes.io/region": "region-0"},
        },
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
        "status": {
            "addresses": [*internal, {"type": "Hostname", "address": name}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }


def _metadata(shape: Shape, service: int, name: str) -> Object:
    return {"name": name, "namespace": shape.namespace(service), "labels": labels(shape)}


def _service_port(port: int) -> Object:
    number = {"port": FIRST_PORT + port, "targetPort": FIRST_TARGET_PORT + port}
    return {"name": f"port-{port}", "protocol": "TCP", **number}


def _slice_port(port: int) -> Object:
    return {"name": f"port-{port}", "protocol": "TCP", "port": FIRST_TARGET_PORT + port}
