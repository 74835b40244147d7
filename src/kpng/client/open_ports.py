"""A Go brain's endpoints tell no protocols; each of their ports stands for those that its service has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from msgspec.structs import replace

from kpng.model import Endpoint, EndpointInfo, PortMapping, Service, ServiceKey
from kpng.wire.endpoint import close_ports, is_open

G = TypeVar("G")
E = TypeVar("E", Endpoint, EndpointInfo)


class OpenPorts(Generic[G, E]):
    """Fills in the protocols, round by round; also anew, where a service got other ports than it had.

    Endpoints come in groups; ``service_of`` says whose a group's are.
    """

    def __init__(self, service_of: Callable[[G], ServiceKey]) -> None:
        self._service_of = service_of
        self._mappings: dict[ServiceKey, tuple[PortMapping, ...]] = {}
        self._open: dict[ServiceKey, dict[tuple[G, str], E]] = {}

    def close(
        self,
        services: Mapping[ServiceKey, Service | None],
        endpoints: dict[G, dict[str, E | None]],
        *,
        whole: bool,
        any_open: bool,
    ) -> None:
        """Take on a complete round, and put closed endpoints in the place of open ones.

        ``whole``: it is all there is. ``any_open``: whether one of the endpoints may be open.
        """
        if whole:
            self._mappings, self._open = {}, {}
        for key, service in services.items():
            if service is None:
                self._mappings.pop(key, None)
            else:
                self._mappings[key] = service.ports
        if not (any_open or self._open):
            return
        touched = set(services)
        for group, rows in endpoints.items():
            touched.add(self._service_of(group))
            self._note(group, rows)
        for key in touched & self._open.keys():
            mappings = self._mappings.get(key, ())
            for (group, name), endpoint in self._open[key].items():
                closed = replace(endpoint, ports=close_ports(endpoint.ports, mappings))
                endpoints.setdefault(group, {})[name] = closed

    def _note(self, group: G, rows: Mapping[str, E | None]) -> None:
        """Remember the open ones."""
        key = self._service_of(group)
        known = self._open.get(key, {})
        for name, endpoint in rows.items():
            if endpoint is not None and is_open(endpoint.ports):
                known[group, name] = endpoint
            else:
                known.pop((group, name), None)
        if known:
            self._open[key] = known
        else:
            self._open.pop(key, None)
