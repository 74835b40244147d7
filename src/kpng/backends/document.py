"""Local state as plain data: what `to-print` prints and `to-exec` hands to its program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kpng.model import ChangeSet, Endpoint, LocalNode, LocalService, PortMapping, Service, ServiceKey


class LocalState:
    """The whole local state at one moment. Immutable: `after` a change set there is another one, so that
    a backend keeps the old one until it has succeeded with the new."""

    def __init__(
        self, services: Mapping[ServiceKey, LocalService] | None = None, node: LocalNode | None = None
    ) -> None:
        self.services = services or {}
        self.node = node

    def after(self, changes: ChangeSet) -> LocalState:
        services = {} if changes.full else dict(self.services)
        for key, change in changes.changes.items():
            if change.new is None:
                services.pop(key, None)
            else:
                services[key] = change.new
        return LocalState(services, changes.node or self.node)

    def document(self) -> dict[str, Any]:
        """``{"node": ..., "services": [...]}``, services in key order; see `service_document` for one of them."""
        services = [service_document(self.services[key]) for key in sorted(self.services)]
        return {"node": node_document(self.node), "services": services} if self.node else {"services": services}


def node_document(node: LocalNode) -> dict[str, Any]:
    """What the node knows of itself, as JSON-able data."""
    return {
        "name": node.name,
        "addresses": list(node.addresses.all()),
        "pod_cidrs": list(node.pod_cidrs),
        "service_cidrs": list(node.service_cidrs),
        "eligible": node.eligible,
    }


def service_document(local: LocalService) -> dict[str, Any]:
    """One service and its endpoints as JSON-able data; empty fields are left out, except ``endpoints``."""
    fields: dict[str, Any] = msgspec.to_builtins(local.service)
    document = {name: value for name, value in fields.items() if value != {}}
    document["ports"] = [_port(port) for port in local.service.ports]
    document["endpoints"] = [_endpoint(key, local.endpoints[key], local.service) for key in sorted(local.endpoints)]
    return document


def _port(port: PortMapping) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(port)
    return document | {"protocol": port.protocol.name}


def _endpoint(key: str, endpoint: Endpoint, service: Service) -> dict[str, Any]:
    """``ports`` maps the service port's number and protocol ("80/TCP") to the endpoint's port number."""
    ports = {f"{p.port}/{p.protocol.name}": endpoint.port_for(p) for p in service.ports}
    return {
        "key": key,
        "addresses": list(endpoint.addresses.all()),
        "ports": {name: number for name, number in ports.items() if number},
        "internal": endpoint.scopes.internal,
        "external": endpoint.scopes.external,
        "local": endpoint.local,
        **({"short_circuit": True} if endpoint.scopes.short_circuit else {}),
        **({"terminating": True} if endpoint.terminating else {}),
        **({"hostname": endpoint.hostname} if endpoint.hostname else {}),
    }
