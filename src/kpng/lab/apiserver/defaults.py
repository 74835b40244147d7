"""What the real server fills in (pkg/apis/core/v1/defaults.go and the registry strategies of each kind)."""

from __future__ import annotations

from collections.abc import Callable

from kpng.lab.apiserver.registry import ENDPOINT_SLICE, NAMESPACE, POD, SERVICE, Kind, Object

_EXTERNAL = ("NodePort", "LoadBalancer")
_TIMEOUT_SECONDS = 10800
_OMIT_EMPTY = ("annotations", "finalizers", "labels", "managedFields", "ownerReferences")


def set_defaults(kind: Kind, thing: Object, before: Object | None) -> None:
    """Fill in the defaults of ``thing`` in place; ``before`` is its stored state, None for a new one."""
    for field in _OMIT_EMPTY:
        if not thing["metadata"].get(field):
            thing["metadata"].pop(field, None)
    if fill := _DEFAULTS.get(kind):
        fill(thing, before)


def _service(service: Object, before: Object | None) -> None:
    spec = service.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "ClientIP":
        config = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        config.setdefault("timeoutSeconds", _TIMEOUT_SECONDS)
    else:
        spec.pop("sessionAffinityConfig", None)
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if not port.get("targetPort") and "port" in port:
            port["targetPort"] = port["port"]
    service.setdefault("status", {"loadBalancer": {}})
    if before is not None:
        _drop_leftovers(spec, before["spec"])
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] in _EXTERNAL:
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)


def _drop_leftovers(spec: Object, old: Object) -> None:
    """Fields that the new type does not have go, if the user did not touch them (dropTypeDependentFields)."""
    if spec["type"] not in _EXTERNAL and old["type"] in _EXTERNAL:
        known = {port.get("nodePort") for port in old.get("ports") or ()}
        for port in spec.get("ports") or ():
            if port.get("nodePort") in known:
                port.pop("nodePort", None)
        _drop_same(spec, old, "externalTrafficPolicy")
    if spec["type"] != "LoadBalancer" or spec.get("externalTrafficPolicy") != "Local":
        _drop_same(spec, old, "healthCheckNodePort")
    if spec["type"] != "LoadBalancer":
        _drop_same(spec, old, "allocateLoadBalancerNodePorts", "loadBalancerClass")
    if spec["type"] == "ExternalName" != old["type"]:
        _drop_same(spec, old, "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")
    if old["type"] == "ExternalName" != spec["type"]:
        _drop_same(spec, old, "externalName")


def _drop_same(spec: Object, old: Object, *fields: str) -> None:
    for field in fields:
        if spec.get(field) == old.get(field):
            spec.pop(field, None)


def _endpoint_slice(thing: Object, _before: Object | None) -> None:
    for port in thing.get("ports") or ():
        if port.get("name") is None:
            port["name"] = ""
        port.setdefault("protocol", "TCP")
    thing.setdefault("endpoints", None)
    thing.setdefault("ports", None)


def _pod(pod: Object, _before: Object | None) -> None:
    spec = pod.setdefault("spec", {})
    for field, value in (("restartPolicy", "Always"), ("dnsPolicy", "ClusterFirst"), ("enableServiceLinks", True)):
        spec.setdefault(field, value)
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        for port in container.get("ports") or ():
            port.setdefault("protocol", "TCP")
    pod.setdefault("status", {}).setdefault("phase", "Pending")


def _namespace(namespace: Object, _before: Object | None) -> None:
    metadata = namespace["metadata"]
    metadata["labels"] = (metadata.get("labels") or {}) | {"kubernetes.io/metadata.name": metadata["name"]}
    namespace.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    namespace.setdefault("status", {}).setdefault("phase", "Active")


_DEFAULTS: dict[Kind, Callable[[Object, Object | None], None]] = {
    SERVICE: _service,
    ENDPOINT_SLICE: _endpoint_slice,
    POD: _pod,
    NAMESPACE: _namespace,
}
