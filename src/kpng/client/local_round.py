"""One round of local state on its way in: decoded, checked, not yet applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from kpng.model import Endpoint, LocalNode, Service, ServiceKey
from kpng.wire.batch import ServiceDelta
from kpng.wire.batch_check import surely_good
from kpng.wire.endpoint import endpoint_from_wire, endpoint_to_wire, is_open
from kpng.wire.lenient import Faults
from kpng.wire.node import local_node_from_wire
from kpng.wire.paths import (
    local_endpoint_path,
    local_service_path,
    parse_local_endpoint,
    parse_local_service,
    shown,
)
from kpng.wire.proto import localv1_pb2 as localv1
from kpng.wire.service import service_from_wire, service_to_wire

from .problems import RoundProblems, SeenProblems

M = TypeVar("M", bound=Message)
T = TypeVar("T")


class LocalRound:
    """What a round says. None: deleted, or nothing that can be used.

    ``whole``: this is all there is. ``emptied``: services that have only those endpoints that are in here.
    ``open``: an endpoint's port may stand for all protocols of its service (`OpenPorts`).
    """

    def __init__(self, problems: SeenProblems, origin: str = "") -> None:
        self.whole = False
        self.services: dict[ServiceKey, Service | None] = {}
        self.endpoints: dict[ServiceKey, dict[str, Endpoint | None]] = {}
        self.emptied: set[ServiceKey] = set()
        self.open = False
        self.node: LocalNode | None = None
        self.problems = RoundProblems(problems)
        self._origin = origin

    def reset(self) -> None:
        self.whole = True
        self.services.clear()
        self.endpoints.clear()
        self.emptied.clear()
        self.node = None
        self.problems.reset()

    # -- single ops --------------------------------------------------------------------------------------

    def set(self, kind: int, path: str, value: bytes) -> None:
        if kind == localv1.ServicesSet:
            self._put_service(path, lambda faults: faults.message(localv1.Service, value))
        elif kind == localv1.EndpointsSet:
            self._put_endpoint(path, lambda faults: faults.message(localv1.Endpoint, value))
        elif kind == localv1.NodesSet:
            self._put_node(path, lambda faults: faults.message(localv1.Node, value))

    def delete(self, kind: int, path: str) -> None:
        if kind == localv1.ServicesSet:
            self._put_service(path, _nothing)
        elif kind == localv1.EndpointsSet:
            self._put_endpoint(path, _nothing)

    def _put_service(self, path: str, read: Callable[[Faults], localv1.Service | None]) -> None:
        faults = Faults(f"Service {shown(path)}", self._origin)
        key = parse_local_service(path)
        if key is None:
            faults.add("", "not a path of a service")
        else:
            message = read(faults)
            self.services[key] = _checked_service(path, message, faults) if message is not None else None
        self.problems.note(faults)

    def _put_endpoint(self, path: str, read: Callable[[Faults], localv1.Endpoint | None]) -> None:
        faults = Faults(f"Endpoint {shown(path)}", self._origin)
        parsed = parse_local_endpoint(path)
        if parsed is None:
            faults.add("", "not a path of an endpoint")
        else:
            message = read(faults)
            endpoint = endpoint_from_wire(message, faults) if message is not None else None
            self.open = self.open or (endpoint is not None and is_open(endpoint.ports))
            self.endpoints.setdefault(parsed[0], {})[parsed[1]] = endpoint
        self.problems.note(faults)

    def _put_node(self, name: str, read: Callable[[Faults], localv1.Node | None]) -> None:
        faults = Faults(f"Node {shown(name)}", self._origin)
        message = read(faults)
        self.node = local_node_from_wire(message, faults) if message is not None else None
        self.problems.note(faults)

    # -- batches -----------------------------------------------------------------------------------------

    def put_node(self, message: localv1.Node) -> None:
        self._put_node(message.Name, lambda _: message)

    def add(self, deltas: Sequence[ServiceDelta]) -> None:
        """What is surely good is taken as it is, the rest as single ops would be, so that faults are named."""
        all_good = surely_good(deltas)
        for delta in deltas:
            if all_good or surely_good((delta,)):
                self._take(delta)
            else:
                self._take_apart(delta)

    def _take(self, delta: ServiceDelta) -> None:
        key = delta.key
        if delta.gone:
            self._drop(key)
        elif delta.service is not None:
            self.services[key] = delta.service
        if delta.endpoints and (known := self.endpoints.setdefault(key, delta.endpoints)) is not delta.endpoints:
            known.update(delta.endpoints)
        if self.problems.any:
            self._mend(delta)

    def _drop(self, key: ServiceKey) -> None:
        """A service is gone, and with it all its endpoints, which are not told one by one."""
        self.services[key] = None
        self.endpoints[key] = {}
        self.emptied.add(key)

    def _mend(self, delta: ServiceDelta) -> None:
        """There was something bad; is it one of these?"""
        path = local_service_path(delta.key)
        if delta.gone or delta.service is not None:
            self.problems.good(f"Service {path}")
        if delta.gone:
            self.problems.gone(f"Endpoint {path}/")
        for name in delta.endpoints:
            self.problems.good(f"Endpoint {path}/{name}")

    def _take_apart(self, delta: ServiceDelta) -> None:
        path = local_service_path(delta.key)
        if delta.gone:
            self._put_service(path, _nothing)
            if parse_local_service(path):
                self._drop(delta.key)
                self.problems.gone(f"Endpoint {path}/")
        elif (service := delta.service) is not None:
            self._put_service(path, lambda faults: _as_message(service_to_wire, service, faults))
        for name, endpoint in delta.endpoints.items():
            self._put_endpoint(
                local_endpoint_path(delta.key, name),
                _nothing
                if endpoint is None
                else lambda faults, said=endpoint: _as_message(endpoint_to_wire, said, faults),  # type: ignore[misc]
            )


def _nothing(_: Faults) -> None:
    return None


def _as_message(encode: Callable[[T], M], value: T, faults: Faults) -> M | None:
    """A value that may be anything its type allows, as it would have come in a single op."""
    try:
        return encode(value)
    except ValueError as error:  # a number that no field of the protocol can hold
        faults.add("", str(error))
        return None


def _checked_service(path: str, message: localv1.Service, faults: Faults) -> Service | None:
    service = service_from_wire(message, faults)
    if service and local_service_path(service.key) != path:
        faults.add("metadata.name", f"says that it is {service.key}")
        return None
    return service
