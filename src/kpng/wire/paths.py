"""Paths: how ops name objects. Local ones are joined by a slash, global ones by a bar, as in the Go kpng."""

from __future__ import annotations

from typing import NamedTuple

from kpng.model import ServiceKey


def local_service_path(key: ServiceKey) -> str:
    return f"{key.namespace}/{key.name}"


def local_endpoint_path(key: ServiceKey, name: str) -> str:
    """``name`` is the endpoint's key in `LocalService.endpoints`."""
    return f"{key.namespace}/{key.name}/{name}"


def parse_local_service(path: str) -> ServiceKey | None:
    namespace, _, name = path.partition("/")
    return ServiceKey(namespace, name) if namespace and name and "/" not in name else None


def parse_local_endpoint(path: str) -> tuple[ServiceKey, str] | None:
    parts = path.split("/", 2)
    return (ServiceKey(parts[0], parts[1]), parts[2]) if len(parts) == 3 and all(parts) else None


class GlobalPath(NamedTuple):
    """A key of the Go kpng's store; what does not apply is empty."""

    namespace: str = ""
    name: str = ""
    source: str = ""
    key: str = ""

    def __str__(self) -> str:
        return "|".join(self)

    @classmethod
    def parse(cls, path: str) -> GlobalPath | None:
        parts = path.split("|")
        return cls(*parts) if len(parts) == 4 else None
