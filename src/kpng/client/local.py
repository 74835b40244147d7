"""Watching one node's local state."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing

from kpng.model import ChangeSet, Endpoint, LocalNode, LocalService, ProblemLog, Service, ServiceChange, ServiceKey
from kpng.wire.endpoint import endpoint_from_wire
from kpng.wire.lenient import Faults
from kpng.wire.node import local_node_from_wire
from kpng.wire.ops import LOCAL_WATCH
from kpng.wire.paths import local_service_path, parse_local_endpoint, parse_local_service, shown
from kpng.wire.proto import localv1_pb2 as localv1
from kpng.wire.service import service_from_wire

from .open_ports import OpenPorts
from .problems import SeenProblems
from .rounds import ask, follow


async def watch_local(
    address: str, node: str, tls: ssl.SSLContext | None = None, *, problems: ProblemLog | None = None
) -> AsyncGenerator[ChangeSet, None]:
    """What ``node`` must do, as change sets without end, from the kpng API at ``address``.

    The first is ``full``. A lost connection is made again, and then only what really differs is told. The
    next round is asked for when the consumer asks for the next change set, so changes collapse meanwhile.
    """
    mirror = LocalMirror()
    seen = SeenProblems(ProblemLog() if problems is None else problems)
    rounds = follow(address, LOCAL_WATCH, _request(node), lambda: LocalRound(seen, address), tls)
    async with aclosing(rounds):
        async for collected in rounds:
            changes = mirror.apply(collected)
            if changes is not None:
                yield changes


async def ask_local(
    address: str, node: str, tls: ssl.SSLContext | None = None, *, problems: ProblemLog | None = None
) -> ChangeSet:
    """What ``node`` must do as of now, asked once. Raises ``OSError``, ``EOFError`` or `GrpcError`."""
    collected = LocalRound(SeenProblems(ProblemLog() if problems is None else problems), address)
    await ask(address, LOCAL_WATCH, _request(node), collected, tls)
    return LocalMirror().apply(collected) or ChangeSet({}, full=True)


def _request(node: str) -> bytes:
    return localv1.WatchReq(NodeName=node).SerializeToString()


class LocalRound:
    """One round's ops, decoded. None: deleted, or nothing that can be used."""

    def __init__(self, problems: SeenProblems, origin: str = "") -> None:
        self.whole = False
        self.services: dict[ServiceKey, Service | None] = {}
        self.endpoints: dict[ServiceKey, dict[str, Endpoint | None]] = {}
        self.node: LocalNode | None = None
        self.problems = problems
        self._origin = origin

    def reset(self) -> None:
        self.whole = True
        self.services.clear()
        self.endpoints.clear()
        self.node = None
        self.problems.reset()

    def set(self, kind: int, path: str, value: bytes) -> None:
        if kind == localv1.ServicesSet:
            self._put_service(path, value)
        elif kind == localv1.EndpointsSet:
            self._put_endpoint(path, value)
        elif kind == localv1.NodesSet:
            self._put_node(path, value)

    def delete(self, kind: int, path: str) -> None:
        if kind == localv1.ServicesSet:
            self._put_service(path, None)
        elif kind == localv1.EndpointsSet:
            self._put_endpoint(path, None)

    def _put_service(self, path: str, value: bytes | None) -> None:
        faults = Faults(f"Service {shown(path)}", self._origin)
        key = parse_local_service(path)
        if key is None:
            faults.add("", "not a path of a service")
        else:
            self.services[key] = _decode_service(path, value, faults) if value is not None else None
        self.problems.note(faults)

    def _put_endpoint(self, path: str, value: bytes | None) -> None:
        faults = Faults(f"Endpoint {shown(path)}", self._origin)
        parsed = parse_local_endpoint(path)
        if parsed is None:
            faults.add("", "not a path of an endpoint")
        else:
            message = faults.message(localv1.Endpoint, value) if value is not None else None
            endpoint = endpoint_from_wire(message, faults) if message else None
            self.endpoints.setdefault(parsed[0], {})[parsed[1]] = endpoint
        self.problems.note(faults)

    def _put_node(self, path: str, value: bytes) -> None:
        faults = Faults(f"Node {shown(path)}", self._origin)
        message = faults.message(localv1.Node, value)
        self.node = local_node_from_wire(message, faults) if message else None
        self.problems.note(faults)


def _decode_service(path: str, value: bytes, faults: Faults) -> Service | None:
    message = faults.message(localv1.Service, value)
    service = service_from_wire(message, faults) if message else None
    if service and local_service_path(service.key) != path:
        faults.add("metadata.name", f"says that it is {service.key}")
        return None
    return service


class LocalMirror:
    """A node's local state as the server last told it. Applies whole rounds."""

    def __init__(self) -> None:
        self._services: dict[ServiceKey, Service] = {}
        # also those of services that are unknown yet: the server does not send them again
        self._endpoints: dict[ServiceKey, Mapping[str, Endpoint]] = {}
        self._state: dict[ServiceKey, LocalService] = {}
        self._node: LocalNode | None = None
        self._ports = OpenPorts[ServiceKey, Endpoint](lambda service: service)
        self._started = False

    @property
    def state(self) -> Mapping[ServiceKey, LocalService]:
        return self._state

    def apply(self, collected: LocalRound) -> ChangeSet | None:
        """Take on a complete round; what it changes, or None if that is nothing. The first is ``full``."""
        self._ports.close(collected.services, collected.endpoints, whole=collected.whole)
        touched = {**dict.fromkeys(collected.services), **dict.fromkeys(collected.endpoints)}
        if collected.whole:
            touched.update(dict.fromkeys(self._state))
            self._services, self._endpoints = {}, {}
            collected.problems.complete()
        self._store(collected)
        changes = self._compare(touched)
        full, self._started = not self._started, True
        news = collected.node if collected.node != self._node else None
        self._node = news or self._node
        return ChangeSet(changes, full=full, node=news) or None

    def _store(self, collected: LocalRound) -> None:
        for key, service in collected.services.items():
            if service is None:
                self._services.pop(key, None)
            else:
                self._services[key] = service
        for key, endpoints in collected.endpoints.items():
            merged = {**self._endpoints.get(key, {}), **endpoints}
            left = {name: endpoint for name, endpoint in merged.items() if endpoint is not None}
            if left:
                self._endpoints[key] = left
            else:
                self._endpoints.pop(key, None)

    def _compare(self, touched: Iterable[ServiceKey]) -> dict[ServiceKey, ServiceChange]:
        changes = {}
        for key in touched:
            old, new = self._state.get(key), self._current(key)
            if old is new or (old and new and old.service == new.service and old.endpoints == new.endpoints):
                continue
            changes[key] = ServiceChange(old, new)
            if new is None:
                del self._state[key]
            else:
                self._state[key] = new
        return changes

    def _current(self, key: ServiceKey) -> LocalService | None:
        service = self._services.get(key)
        return LocalService(service, self._endpoints.get(key, {})) if service else None
