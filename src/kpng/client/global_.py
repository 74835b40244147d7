"""Watching the whole cluster's state."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from google.protobuf.message import Message

from kpng.model import EndpointInfo, Node, ProblemLog, Service, ServiceKey, parse_cidr
from kpng.wire.endpoint import endpoint_info_from_wire, is_open
from kpng.wire.lenient import Faults
from kpng.wire.node import node_from_wire
from kpng.wire.ops import GLOBAL_WATCH
from kpng.wire.paths import GlobalPath, shown
from kpng.wire.proto import globalv1_pb2 as globalv1
from kpng.wire.proto import localv1_pb2 as localv1
from kpng.wire.service import service_from_wire

from .conversation import Plain
from .open_ports import OpenPorts
from .problems import RoundProblems, SeenProblems
from .rounds import ask, follow

M = TypeVar("M", bound=Message)
T = TypeVar("T")

_REQUEST = globalv1.GlobalWatchReq(Sets=[localv1.GlobalServiceCIDRs]).SerializeToString()


async def watch_global(
    address: str, tls: ssl.SSLContext | None = None, *, problems: ProblemLog | None = None
) -> AsyncGenerator[GlobalRound, None]:
    """The global state of the kpng API at ``address``, round by round, without end."""
    seen = SeenProblems(ProblemLog() if problems is None else problems)
    ports = _open_ports()
    rounds = follow(address, [_conversation(seen, address)], tls)
    async with aclosing(rounds):
        async for collected in rounds:
            ports.close(collected.services, collected.endpoints, whole=collected.whole, any_open=collected.open)
            collected.problems.take_on()
            yield collected


async def ask_global(
    address: str, tls: ssl.SSLContext | None = None, *, problems: ProblemLog | None = None
) -> GlobalRound:
    """The global state as of now, asked once. Raises ``OSError``, ``EOFError`` or `GrpcError`."""
    seen = SeenProblems(ProblemLog() if problems is None else problems)
    collected = await ask(address, [_conversation(seen, address)], tls)
    _open_ports().close(collected.services, collected.endpoints, whole=collected.whole, any_open=collected.open)
    collected.problems.take_on()
    return collected


def _conversation(seen: SeenProblems, origin: str) -> Plain[GlobalRound]:
    return Plain(GLOBAL_WATCH, _REQUEST, lambda: GlobalRound(seen, origin))


def _open_ports() -> OpenPorts[tuple[ServiceKey, str], EndpointInfo]:
    return OpenPorts(lambda group: group[0])


class GlobalRound:
    """One round's ops, decoded. None: deleted, or nothing that can be used.

    ``whole``: this is all there is. Endpoints are by (service, source), then by their path's last part.
    """

    def __init__(self, problems: SeenProblems, origin: str = "") -> None:
        self.whole = False
        self.services: dict[ServiceKey, Service | None] = {}
        self.endpoints: dict[tuple[ServiceKey, str], dict[str, EndpointInfo | None]] = {}
        self.nodes: dict[str, Node | None] = {}
        self.service_cidrs: dict[str, tuple[str, ...] | None] = {}
        self.open = False
        """Whether an endpoint's port may stand for all protocols of its service (`OpenPorts`)."""
        self.problems = RoundProblems(problems)
        self._origin = origin

    def reset(self) -> None:
        self.whole = True
        self.services.clear()
        self.endpoints.clear()
        self.nodes.clear()
        self.service_cidrs.clear()
        self.problems.reset()

    def set(self, kind: int, path: str, value: bytes) -> None:
        self._put(kind, path, value)

    def delete(self, kind: int, path: str) -> None:
        self._put(kind, path, None)

    def _put(self, kind: int, text: str, value: bytes | None) -> None:
        path = GlobalPath.parse(text)
        if path is None:
            faults = Faults(f"Object {shown(text)}", self._origin)
            faults.add("", "not a path of the global state")
            self.problems.note(faults)
        elif kind == localv1.GlobalServiceInfos:
            self._put_service(path, value)
        elif kind == localv1.GlobalEndpointInfos:
            self._put_endpoint(path, value)
        elif kind == localv1.GlobalNodeInfos:
            self._put_node(path, value)
        elif kind == localv1.GlobalServiceCIDRs:
            self._put_service_cidr(path, value)

    def _put_service(self, path: GlobalPath, value: bytes | None) -> None:
        faults = Faults(f"Service {path.namespace}/{path.name}", self._origin)
        key = ServiceKey(path.namespace, path.name)
        service = _decode(globalv1.ServiceInfo, value, faults, _service)
        if service and service.key != key:
            faults.add("metadata.name", f"says that it is {service.key}")
            service = None
        self.services[key] = service
        self.problems.note(faults)

    def _put_endpoint(self, path: GlobalPath, value: bytes | None) -> None:
        if not path.name:  # the Go kpng's index by source: each endpoint comes once more, under its service
            return
        faults = Faults(f"Endpoint {path.namespace}/{path.name}/{path.source}/{path.key}", self._origin)
        group = (ServiceKey(path.namespace, path.name), path.source)
        info = _decode(globalv1.EndpointInfo, value, faults, endpoint_info_from_wire)
        self.open = self.open or (info is not None and is_open(info.ports))
        self.endpoints.setdefault(group, {})[path.key] = info
        self.problems.note(faults)

    def _put_node(self, path: GlobalPath, value: bytes | None) -> None:
        faults = Faults(f"Node {path.name}", self._origin)
        node = _decode(globalv1.NodeInfo, value, faults, _node)
        if node and node.name != path.name:
            faults.add("metadata.name", f"says that it is {node.name}")
            node = None
        self.nodes[path.name] = node
        self.problems.note(faults)

    def _put_service_cidr(self, path: GlobalPath, value: bytes | None) -> None:
        faults = Faults(f"ServiceCIDR {path.name}", self._origin)
        self.service_cidrs[path.name] = _decode(globalv1.ServiceCIDR, value, faults, _cidrs)
        self.problems.note(faults)


def _decode(
    kind: type[M], value: bytes | None, faults: Faults, convert: Callable[[M, Faults], T | None]
) -> T | None:
    message = faults.message(kind, value) if value is not None else None
    return convert(message, faults) if message is not None else None


def _service(message: globalv1.ServiceInfo, faults: Faults) -> Service | None:
    return service_from_wire(message.Service, faults)


def _node(message: globalv1.NodeInfo, faults: Faults) -> Node | None:
    return node_from_wire(message.Node, faults)


def _cidrs(message: globalv1.ServiceCIDR, faults: Faults) -> tuple[str, ...]:
    return faults.texts(message.CIDRs, "spec.cidrs", parse_cidr)
