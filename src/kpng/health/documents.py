"""The bodies of the answers, to the byte as kube-proxy's: load balancers may compare them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from kpng.model import ServiceKey

from .state import Report


def timestamp(seconds: float) -> str:
    """RFC 3339 as Go writes it (RFC3339Nano): no zeros at the end, UTC."""
    whole, microseconds = divmod(round(seconds * 1_000_000), 1_000_000)
    moment = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{microseconds:06d}".rstrip("0") if microseconds else ""
    return f"{moment}{fraction}Z"


def service_document(service: ServiceKey, local_endpoints: int, *, healthy: bool) -> str:
    """The answer of a healthCheckNodePort (L5)."""
    document = {
        "service": {"namespace": service.namespace, "name": service.name},
        "localEndpoints": local_endpoints,
        "serviceProxyHealthy": healthy,
    }
    return json.dumps(document, indent="\t")


def proxy_document(report: Report, *, with_node: bool) -> str:
    """The answer of /healthz (``with_node``) and /livez (M2)."""
    document = {
        "lastUpdated": timestamp(report.last_updated),
        "currentTime": timestamp(report.now),
        **({"nodeEligible": report.node_eligible} if with_node else {}),
        "healthy": report.healthy,
        "status": {
            f"IPv{family.value}": {"lastUpdated": timestamp(health.last_updated), "healthy": health.healthy}
            for family, health in sorted(report.families.items())
        },
    }
    return json.dumps(document, separators=(",", ":"))
