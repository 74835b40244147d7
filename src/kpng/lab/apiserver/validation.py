"""The checks of the real server that users run into, with its words (pkg/apis/core/validation, discovery)."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

from kpng.lab.apiserver import errors
from kpng.lab.apiserver.errors import FieldError
from kpng.lab.apiserver.registry import ENDPOINT_SLICE, NAMESPACE, SERVICE, Kind, Object

Faults = Iterator[FieldError]

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_FORMS = {
    "subdomain": (
        re.compile(rf"{_LABEL}(\.{_LABEL})*"),
        253,
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
        "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
        r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
    ),
    "label": (
        re.compile(_LABEL),
        63,
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and "
        "end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
        "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
    ),
    "label1035": (
        re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?"),
        63,
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
        "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
        "validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
    ),
}
_NAME_FORMS = {SERVICE: "label1035", NAMESPACE: "label"}
_LABEL_KEY = re.compile(
    rf"({_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?",
)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_CHOICES = (
    ("sessionAffinity", ("ClientIP", "None")),
    ("internalTrafficPolicy", ("Cluster", "Local")),
    ("externalTrafficPolicy", ("Cluster", "Local")),
    ("ipFamilyPolicy", ("PreferDualStack", "RequireDualStack", "SingleStack")),
)
_SOCKET_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_MAX_ENDPOINTS, _MAX_ADDRESSES, _MAX_TIMEOUT = 1000, 100, 86400


def validate(kind: Kind, thing: Object, before: Object | None) -> list[FieldError]:
    """Every fault of ``thing``; ``before`` is what it is to replace."""
    faults = list(_metadata(kind, thing["metadata"]))
    if check := _CHECKS.get(kind):
        faults += check(thing, before)
    return faults


def _form(field: str, value: Any, form: str) -> Faults:
    pattern, limit, text = _FORMS[form]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        yield errors.invalid_value(field, value, text)
    elif len(value) > limit:
        yield FieldError("FieldValueTooLong", field, f"Too long: may not be more than {limit} bytes")


def _metadata(kind: Kind, metadata: Object) -> Faults:
    yield from _form("metadata.name", metadata["name"], _NAME_FORMS.get(kind, "subdomain"))
    for key, value in (metadata.get("labels") or {}).items():
        if not _LABEL_KEY.fullmatch(key):
            yield errors.invalid_value("metadata.labels", key, "name part must be a valid label name")
        if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
            yield errors.invalid_value(
                "metadata.labels",
                value,
                "a valid label must be an empty string or consist of"
                " alphanumeric characters, '-', '_' or '.', and must start and end with an"
                " alphanumeric character",
            )


def _port_number(field: str, value: Any) -> Faults:
    if type(value) is not int or not 1 <= value <= 65535:
        yield errors.invalid_value(field, value, "must be between 1 and 65535, inclusive")


def _choice(field: str, value: Any, choices: tuple[str, ...]) -> Faults:
    if value not in choices:
        yield errors.unsupported(field, value, choices)


# -- Service -----------------------------------------------------------------------------------------------


def _service(service: Object, before: Object | None) -> Faults:
    spec = service["spec"]
    yield from _choice("spec.type", spec["type"], _TYPES)
    for field, choices in _CHOICES:
        if spec.get(field) is not None:
            yield from _choice(f"spec.{field}", spec[field], choices)
    if spec["type"] == "ExternalName":
        yield from _form("spec.externalName", spec.get("externalName", "").removesuffix("."), "subdomain")
    elif not spec.get("ports") and spec.get("clusterIP") != "None":
        yield errors.required("spec.ports")
    yield from _service_ports(spec)
    yield from _affinity_timeout(spec)
    yield from _external_fields(spec)
    yield from _cluster_ips(spec, before)
    for index, address in enumerate(spec.get("externalIPs") or ()):
        yield from _ip(f"spec.externalIPs[{index}]", address)


def _service_ports(spec: Object) -> Faults:
    ports = spec.get("ports") or []
    names: set[str] = set()
    pairs: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        field = f"spec.ports[{index}]"
        yield from _port_name(field, port.get("name"), len(ports) > 1, names)
        yield from _port_number(f"{field}.port", port.get("port", 0))
        yield from _choice(f"{field}.protocol", port["protocol"], _PROTOCOLS)
        target = port.get("targetPort")
        if isinstance(target, int):
            yield from _port_number(f"{field}.targetPort", target)
        if port.get("nodePort") and spec["type"] not in ("NodePort", "LoadBalancer"):
            detail = f"may not be used when `type` is '{spec['type']}'"
            yield errors.forbidden_field(f"{field}.nodePort", detail)
        if (pair := (port["protocol"], port.get("port"))) in pairs:
            yield errors.duplicate(field, {"port": pair[1], "protocol": pair[0]})
        pairs.add(pair)


def _port_name(field: str, name: Any, needed: bool, seen: set[str]) -> Faults:
    if not name:
        if needed:
            yield errors.required(f"{field}.name")
        return
    yield from _form(f"{field}.name", name, "label")
    if name in seen:
        yield errors.duplicate(f"{field}.name", name)
    seen.add(name)


def _affinity_timeout(spec: Object) -> Faults:
    config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    seconds = config.get("timeoutSeconds", 1)
    if type(seconds) is not int or not 0 < seconds <= _MAX_TIMEOUT:
        field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        yield errors.invalid_value(field, seconds, f"must be greater than 0 and less than {_MAX_TIMEOUT}")


def _external_fields(spec: Object) -> Faults:
    external = spec["type"] in ("NodePort", "LoadBalancer")
    if spec.get("externalTrafficPolicy") and not external and not spec.get("externalIPs"):
        policy = spec["externalTrafficPolicy"]
        detail = "may only be set for externally-accessible services"
        yield errors.invalid_value("spec.externalTrafficPolicy", policy, detail)
    local = spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    if spec.get("healthCheckNodePort") and not local:
        detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield errors.invalid_value("spec.healthCheckNodePort", spec["healthCheckNodePort"], detail)
    if spec["type"] != "LoadBalancer" and spec.get("loadBalancerClass"):
        yield errors.forbidden_field("spec.loadBalancerClass", "may only be used when `type` is 'LoadBalancer'")


def _cluster_ips(spec: Object, before: Object | None) -> Faults:
    addresses = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    if spec["type"] == "ExternalName" and addresses:
        yield errors.forbidden_field("spec.clusterIPs", "may not be set when `type` is 'ExternalName'")
    if spec.get("clusterIP") and addresses and addresses[0] != spec["clusterIP"]:
        yield errors.invalid_value("spec.clusterIPs", addresses, "first value must match `clusterIP`")
    for index, address in enumerate(addresses):
        if address != "None":
            yield from _ip(f"spec.clusterIPs[{index}]", address)
    if addresses == ["None"] and spec["type"] in ("NodePort", "LoadBalancer"):
        detail = f"may not be set to 'None' for {spec['type']} services"
        yield errors.invalid_value("spec.clusterIPs[0]", "None", detail)
    old = before["spec"].get("clusterIPs") if before else None
    if old and addresses and addresses[0] != old[0]:
        yield errors.invalid_value("spec.clusterIPs[0]", addresses, "may not change once set")


def _ip(field: str, value: Any, version: int | None = None) -> Faults:
    if version and isinstance(value, str) and _is_plain(value, version):
        return
    try:
        address = ip_address(value if isinstance(value, str) else "")
    except ValueError:
        text = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        yield errors.invalid_value(field, value, text)
        return
    if version and address.version != version:
        yield errors.invalid_value(field, value, f"must be an IPv{version} address")


def _is_plain(value: str, version: int) -> bool:
    """Whether that is surely an address: inet_pton(3) is ten times as fast as ipaddress, and as strict."""
    try:
        socket.inet_pton(_SOCKET_FAMILIES[version], value)
    except (OSError, ValueError):
        return False
    return True


# -- EndpointSlice -----------------------------------------------------------------------------------------


def _endpoint_slice(thing: Object, before: Object | None) -> Faults:
    kind = thing.get("addressType")
    if not kind:
        yield errors.required("addressType")
    else:
        yield from _choice("addressType", kind, _ADDRESS_TYPES)
    if before and before["addressType"] != kind:
        yield errors.invalid_value("addressType", kind, "field is immutable")
    endpoints = thing.get("endpoints") or []
    if len(endpoints) > _MAX_ENDPOINTS:
        text = f"Too many: {len(endpoints)}: must have at most {_MAX_ENDPOINTS} items"
        yield FieldError("FieldValueTooMany", "endpoints", text)
    for index, endpoint in enumerate(endpoints):
        yield from _endpoint(f"endpoints[{index}]", endpoint, kind)
    yield from _slice_ports(thing)


def _endpoint(field: str, endpoint: Object, kind: Any) -> Faults:
    addresses = endpoint.get("addresses") or []
    if not addresses:
        yield errors.required(f"{field}.addresses", "must contain at least 1 address")
    if len(addresses) > _MAX_ADDRESSES:
        text = f"Too many: {len(addresses)}: must have at most {_MAX_ADDRESSES} items"
        yield FieldError("FieldValueTooMany", f"{field}.addresses", text)
    for index, address in enumerate(addresses):
        if kind in ("IPv4", "IPv6"):
            yield from _ip(f"{field}.addresses[{index}]", address, int(kind[-1]))
        elif kind == "FQDN":
            yield from _form(f"{field}.addresses[{index}]", address, "subdomain")
    if endpoint.get("nodeName") is not None:
        yield from _form(f"{field}.nodeName", endpoint["nodeName"], "subdomain")


def _slice_ports(thing: Object) -> Faults:
    names = set()
    for index, port in enumerate(thing.get("ports") or ()):
        field = f"ports[{index}]"
        if port["name"] in names:
            yield errors.duplicate(f"{field}.name", port["name"])
        names.add(port["name"])
        if port["name"]:
            yield from _form(f"{field}.name", port["name"], "label")
        if port.get("port") is not None:
            yield from _port_number(f"{field}.port", port["port"])
        yield from _choice(f"{field}.protocol", port["protocol"], _PROTOCOLS)


_CHECKS: dict[Kind, Callable[[Object, Object | None], Faults]] = {
    SERVICE: _service,
    ENDPOINT_SLICE: _endpoint_slice,
}
