"""The columns `kubectl get` shows for each kind, in the order and words of the real printers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kpng.lab.apiserver.registry import ENDPOINT_SLICE, NAMESPACE, NODE, POD, SERVICE, SERVICE_CIDR, Kind, Object

_ROLE = "node-role.kubernetes.io/"
_NONE, _UNSET = "<none>", "<unset>"


@dataclass(frozen=True)
class Column:
    """One column; ``wide``: only for `-o wide`."""

    name: str
    cell: Callable[[Object], Any]
    wide: bool = False
    type: str = "string"


def age(stamp: str | None) -> str:
    """The time since an RFC 3339 stamp as kubectl writes it: 45s, 5m3s, 3h, 2d4h (duration.HumanDuration)."""
    if not stamp:
        return "<unknown>"
    then = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    return human_duration(int((datetime.now(UTC) - then).total_seconds()))


_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400
_STEPS = (
    # up to, unit, its letter, second unit (0: none), its letter
    (2 * _MINUTE, 1, "s", 0, ""),
    (10 * _MINUTE, _MINUTE, "m", 1, "s"),
    (3 * _HOUR, _MINUTE, "m", 0, ""),
    (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
    (2 * _DAY, _HOUR, "h", 0, ""),
    (8 * _DAY, _DAY, "d", _HOUR, "h"),
    (2 * _YEAR, _DAY, "d", 0, ""),
    (8 * _YEAR, _YEAR, "y", _DAY, "d"),
)


def human_duration(seconds: int) -> str:
    seconds = max(seconds, 0)
    for limit, unit, letter, small_unit, small_letter in _STEPS:
        if seconds < limit:
            rest = seconds % unit // small_unit if small_unit else 0
            return f"{seconds // unit}{letter}" + (f"{rest}{small_letter}" if rest else "")
    return f"{seconds // _YEAR}y"


def at(thing: Object, path: str, missing: Any = "") -> Any:
    """The value at a dotted path, or ``missing``."""
    value: Any = thing
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return missing if value in (None, "", [], {}) else value


def _field(path: str, missing: Any = _NONE) -> Callable[[Object], Any]:
    return lambda thing: at(thing, path, missing)


def _joined(items: Iterable[Any], limit: int | None = None) -> str:
    texts = [str(item) for item in items]
    if limit and len(texts) > limit:
        return f"{','.join(texts[:limit])} + {len(texts) - limit} more..."
    return ",".join(texts) or _NONE


def _selector(service: Object) -> str:
    return _joined(f"{key}={value}" for key, value in sorted(at(service, "spec.selector", {}).items()))


def _external(service: Object) -> str:
    ingress = [item.get("ip") or item.get("hostname") for item in at(service, "status.loadBalancer.ingress", ())]
    given = list(at(service, "spec.externalIPs", ()))
    match service["spec"].get("type"):
        case "LoadBalancer":
            return _joined(ingress + given) if ingress or given else "<pending>"
        case "ExternalName":
            return str(at(service, "spec.externalName", _NONE))
        case _:
            return _joined(given)


def _service_ports(service: Object) -> str:
    def one(port: Object) -> str:
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        return f"{port['port']}{node}/{port['protocol']}"

    return _joined(map(one, at(service, "spec.ports", ())))


def _node_status(node: Object) -> str:
    ready = {item.get("type"): item.get("status") for item in at(node, "status.conditions", ())}.get("Ready")
    words = [{"True": "Ready", None: "Unknown"}.get(ready, "NotReady")]
    return ",".join([*words, *(["SchedulingDisabled"] if at(node, "spec.unschedulable") else [])])


def _roles(node: Object) -> str:
    labels = at(node, "metadata.labels", {})
    return _joined(sorted(key.removeprefix(_ROLE) for key in labels if key.startswith(_ROLE)))


def _address(kind: str) -> Callable[[Object], str]:
    def cell(node: Object) -> str:
        return next((a["address"] for a in at(node, "status.addresses", ()) if a.get("type") == kind), _NONE)

    return cell


def _ready(pod: Object) -> str:
    statuses = at(pod, "status.containerStatuses", ())
    return f"{sum(bool(s.get('ready')) for s in statuses)}/{len(at(pod, 'spec.containers', ()))}"


def _pod_status(pod: Object) -> str:
    if at(pod, "metadata.deletionTimestamp"):
        return "Terminating"
    return str(at(pod, "status.reason") or at(pod, "status.phase", "Unknown"))


def _restarts(pod: Object) -> int:
    return sum(status.get("restartCount", 0) for status in at(pod, "status.containerStatuses", ()))


def _slice_ports(thing: Object) -> str:
    ports = [port.get("port") or "*" for port in at(thing, "ports", ())]
    return _joined(ports, 3) if ports else _UNSET


def _slice_addresses(thing: Object) -> str:
    addresses = [address for endpoint in at(thing, "endpoints", ()) for address in endpoint["addresses"]]
    return _joined(addresses, 3) if addresses else _UNSET


_NAME = Column("Name", _field("metadata.name"))
_AGE = Column("Age", lambda thing: age(at(thing, "metadata.creationTimestamp", None)))

COLUMNS: dict[Kind, tuple[Column, ...]] = {
    SERVICE: (
        _NAME,
        Column("Type", _field("spec.type")),
        Column("Cluster-IP", _field("spec.clusterIP")),
        Column("External-IP", _external),
        Column("Port(s)", _service_ports),
        _AGE,
        Column("Selector", _selector, wide=True),
    ),
    NODE: (
        _NAME,
        Column("Status", _node_status),
        Column("Roles", _roles),
        _AGE,
        Column("Version", _field("status.nodeInfo.kubeletVersion", "")),
        Column("Internal-IP", _address("InternalIP"), wide=True),
        Column("External-IP", _address("ExternalIP"), wide=True),
        Column("OS-Image", _field("status.nodeInfo.osImage", "<unknown>"), wide=True),
        Column("Kernel-Version", _field("status.nodeInfo.kernelVersion", "<unknown>"), wide=True),
        Column("Container-Runtime", _field("status.nodeInfo.containerRuntimeVersion", "<unknown>"), wide=True),
    ),
    POD: (
        _NAME,
        Column("Ready", _ready),
        Column("Status", _pod_status),
        Column("Restarts", _restarts, type="integer"),
        _AGE,
        Column("IP", _field("status.podIP"), wide=True),
        Column("Node", _field("spec.nodeName"), wide=True),
        Column("Nominated Node", _field("status.nominatedNodeName"), wide=True),
        Column("Readiness Gates", lambda _: _NONE, wide=True),
    ),
    NAMESPACE: (
        _NAME,
        Column("Status", lambda thing: "Terminating" if at(thing, "metadata.deletionTimestamp") else "Active"),
        _AGE,
    ),
    ENDPOINT_SLICE: (
        _NAME,
        Column("AddressType", _field("addressType")),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_addresses),
        _AGE,
    ),
    SERVICE_CIDR: (_NAME, Column("CIDRs", lambda thing: ",".join(at(thing, "spec.cidrs", []))), _AGE),
}
