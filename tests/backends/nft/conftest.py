"""A client, a node and pods, each a network namespace, with real servers; the backend programs the node."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import selectors
import socket
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from kpng.backends.nft import NftBackend
from kpng.host.nftables import Family as NftFamily
from kpng.host.nftables import Nftables, elements, messages
from kpng.lab.netns import Namespace, connect
from kpng.model import (
    ChangeSet,
    Endpoint,
    EndpointPort,
    IPSet,
    LocalNode,
    LocalService,
    PortMapping,
    Protocol,
    Scopes,
    Service,
    ServiceChange,
    ServiceKey,
)

T = TypeVar("T")
_numbers = itertools.count()

CLIENTS = {4: [f"192.0.2.{n}" for n in range(10, 16)], 6: ["2001:db8:2::10"]}
NODE = {4: "192.0.2.1", 6: "2001:db8:2::1"}
NODE_INSIDE = {4: "10.1.0.254", 6: "fd00:1::fe"}
PODS = {4: [f"10.1.0.{n}" for n in range(1, 6)], 6: [f"fd00:1::{n}" for n in range(1, 6)]}
PORTS = (8080, 8081)


class Echo:
    """TCP and UDP servers that answer with their own address and the client's."""

    def __init__(self, namespace: Namespace, addresses: list[str], ports: tuple[int, ...]) -> None:
        self._selector = selectors.DefaultSelector()
        self._stop, stop_other = socket.socketpair()
        self._stopped = stop_other
        self._selector.register(self._stopped, selectors.EVENT_READ)
        for sock in namespace.call(lambda: list(_listeners(addresses, ports))):
            self._selector.register(sock, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._stopped:
                    return
                self._answer(key.fileobj)

    @staticmethod
    def _answer(sock: Any) -> None:
        with contextlib.suppress(OSError):
            if sock.type == socket.SOCK_DGRAM:
                _, peer = sock.recvfrom(2048)
                sock.sendto(_said(sock, peer), peer)
                return
            connection, peer = sock.accept()
            with connection:
                connection.sendall(_said(connection, peer))

    def close(self) -> None:
        self._stop.send(b"x")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._stop.close()
        self._selector.close()


def _said(sock: socket.socket, peer: tuple[Any, ...]) -> bytes:
    own = sock.getsockname()
    return f"{own[0]} {own[1]} {peer[0]}".encode()


def _listeners(addresses: list[str], ports: tuple[int, ...]) -> Iterator[socket.socket]:
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for port in ports:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                sock = socket.socket(family, kind)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address, port))
                if kind == socket.SOCK_STREAM:
                    sock.listen(512)
                sock.setblocking(False)
                yield sock


class Place:
    """A thread that lives in a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self._thread = namespace.executor()

    def call(self, function: Callable[[], T]) -> T:
        return self._thread.submit(function).result()

    def start(self, function: Callable[[], T]) -> Any:
        return self._thread.submit(function)

    def reach(
        self, address: str, port: int, *, protocol: str = "tcp", source: str = "", timeout: float = 0.4
    ) -> tuple[str, int, str]:
        """Connect, and say who answered (address, port) and whom they saw. Raises `OSError`."""
        return self.call(lambda: reach(address, port, protocol, source, timeout))

    def count(self, times: int, address: str, port: int, **options: Any) -> Counter[str]:
        """Who answered how often."""
        options = {"protocol": "tcp", "source": "", "timeout": 1.0, **options}
        return self.call(lambda: Counter(reach(address, port, **options)[0] for _ in range(times)))

    def close(self) -> None:
        self._thread.shutdown()


def reach(address: str, port: int, protocol: str, source: str, timeout: float) -> tuple[str, int, str]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as sock:
        sock.settimeout(timeout)
        if source:
            sock.bind((source, 0))
        sock.connect((address, port))
        if kind == socket.SOCK_DGRAM:
            sock.send(b"?")
        own, own_port, seen = sock.recv(200).decode().split()
    return own, int(own_port), seen


class Runner:
    """An event loop in a thread that lives in a namespace, for what is asynchronous."""

    def __init__(self, namespace: Namespace) -> None:
        self._thread: ThreadPoolExecutor = namespace.executor()
        self._loop = self._thread.submit(asyncio.new_event_loop).result()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._thread.submit(self._loop.run_until_complete, coroutine).result()

    def call(self, function: Callable[[], T]) -> T:
        return self._thread.submit(function).result()

    def close(self) -> None:
        self.run(self._loop.shutdown_default_executor())
        self.call(self._loop.close)
        self._thread.shutdown()


class Programmed:
    """A backend that runs in a namespace, and the state it was given."""

    def __init__(self, runner: Runner, **options: Any) -> None:
        self.runner = runner
        self.backend = runner.run(self._start(options))
        self.state: dict[ServiceKey, LocalService] = {}
        self._first = True

    @staticmethod
    async def _start(options: dict[str, Any]) -> NftBackend:
        backend = NftBackend(**options)
        await backend.start()
        return backend

    def set(self, *services: LocalService, node: LocalNode | None = None) -> None:
        """Make these the whole state, by a change set; the node stays as it is where none is given."""
        wanted = {local.service.key: local for local in services}
        changes = {
            key: ServiceChange(self.state.get(key), wanted.get(key))
            for key in {*self.state, *wanted}
            if self.state.get(key) is not wanted.get(key)
        }
        self.apply(ChangeSet(changes, full=self._first, node=node))
        self.state = wanted
        self._first = False

    def apply(self, changes: ChangeSet) -> None:
        self.runner.run(self.backend.apply(changes))

    def generation(self) -> int:
        assert self.backend._connection is not None
        return self.runner.call(self.backend._connection.generation)

    def checked(self) -> None:
        """Have the guard look once, now."""
        assert self.backend._guard is not None
        self.runner.run(self.backend._guard.check())

    def wait(self, seconds: float) -> None:
        """Let what runs in the background run: the event loop otherwise only turns within calls."""
        self.runner.run(asyncio.sleep(seconds))

    def stop(self) -> None:
        self.runner.run(self.backend.stop())


class Rig:
    """client — node — pods."""

    def __init__(self, name: str) -> None:
        self.spaces = [Namespace(f"kpt-{name}-{part}") for part in ("client", "node", "pods")]
        try:
            self._build()
        except BaseException:
            self._delete()
            raise
        self.client, self.node, self.pods = (Place(space) for space in self.spaces)
        self.runner = Runner(self.spaces[1])
        self.echo = Echo(self.spaces[2], PODS[4] + PODS[6], PORTS)
        self._backends: list[Programmed] = []

    def _build(self) -> None:
        client, node, pods = self.spaces
        for space in self.spaces:
            space.create()
            space.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0")
        connect(client, "eth0", node, "out")
        connect(node, "in", pods, "eth0")
        self._address(client, "eth0", CLIENTS[4], CLIENTS[6])
        self._address(node, "out", [NODE[4]], [NODE[6]])
        self._address(node, "in", [NODE_INSIDE[4]], [NODE_INSIDE[6]])
        self._address(pods, "eth0", PODS[4], PODS[6])
        for space, gateway in ((client, NODE), (pods, NODE_INSIDE)):
            space.run("ip", "route", "add", "default", "via", gateway[4])
            space.run("ip", "-6", "route", "add", "default", "via", gateway[6])
        # Service addresses need a route, to nowhere: a route back to where they come from would send redirects.
        node.run("ip", "link", "add", "nowhere", "type", "veth", "peer", "name", "nobody")
        node.run("ip", "link", "set", "nobody", "up")
        node.run("ip", "link", "set", "nowhere", "up")
        node.run("ip", "route", "add", "default", "dev", "nowhere")
        node.run("ip", "-6", "route", "add", "default", "dev", "nowhere")
        node.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        node.run("sysctl", "-qw", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.in.send_redirects=0")
        for space in self.spaces:
            space.run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")

    @staticmethod
    def _address(space: Namespace, device: str, v4: list[str], v6: list[str]) -> None:
        for address in v4:
            space.run("ip", "addr", "add", f"{address}/24", "dev", device)
        for address in v6:
            space.run("ip", "-6", "addr", "add", f"{address}/64", "dev", device, "nodad")

    def start(self, **options: Any) -> Programmed:
        """A backend on the node."""
        programmed = Programmed(self.runner, **options)
        self._backends.append(programmed)
        return programmed

    def flush_clients(self, programmed: Programmed) -> None:
        """Forget to whom session affinity has tied clients."""
        connection = programmed.backend._connection
        assert connection is not None
        parts = [part for family in NftFamily for part in _forget_clients(connection, family)]
        self.runner.call(lambda: connection.commit(parts))

    def nft(self, *command: str, stdin: str | None = None) -> str:
        return self.node.namespace.run("nft", *command, stdin=stdin)

    def reset(self) -> None:
        """As it was before a test."""
        for programmed in self._backends:
            programmed.stop()
        self._backends.clear()
        self.runner.run(NftBackend.cleanup())
        self.nft("flush", "ruleset")
        # A UDP flow of an earlier test would be answered still, whenever its source port is chosen again.
        self.node.namespace.run("conntrack", "-F")

    def close(self) -> None:
        for place in (self.client, self.node, self.pods):
            place.close()
        self.runner.close()
        self.echo.close()
        self._delete()

    def _delete(self) -> None:
        for space in self.spaces:
            space.delete()


def _forget_clients(connection: Nftables, family: NftFamily) -> Iterator[bytes]:
    where = (family, "kpng", "affinity_clients")
    keys = [element.key for element in connection.elements(*where)]
    return messages.delete_elements(*where, (elements.key_encoder(len(key))(key) for key in keys))


@pytest.fixture(scope="module")
def _rig() -> Iterator[Rig]:
    rig = Rig(f"{os.getpid()}-{next(_numbers)}")
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture
def rig(_rig: Rig) -> Iterator[Rig]:
    try:
        yield _rig
    finally:
        _rig.reset()


@pytest.fixture
def node_runner() -> Iterator[Runner]:
    """Only a node, in a namespace of its own."""
    with Namespace(f"kpt-{os.getpid()}-{next(_numbers)}") as space:
        runner = Runner(space)
        runner.namespace = space  # type: ignore[attr-defined]
        try:
            yield runner
        finally:
            runner.close()


def make_service(name: str = "web", *, pods: Any = (1, 2, 3), **fields: Any) -> LocalService:
    """A service at 10.96.0.7:80 and fd00:96::7, to pods by number on port 8080.

    ``local``: pods on this node. ``internal``, ``external``: pods in that scope (default: all); ``short``: those
    that external traffic from inside the cluster may use (default: none).
    """
    local = set(fields.pop("local", ()))
    internal, external = set(fields.pop("internal", pods)), set(fields.pop("external", pods))
    short = set(fields.pop("short", ()))
    available = fields.pop("available", 3 if pods else 0)
    vip = fields.pop("vip", 7)
    mapping = {"port": 80, "available": available, "node_port": fields.pop("node_port", 0)}
    mapping |= {"protocol": fields.pop("protocol", Protocol.TCP), "name": fields.pop("port_name", "")}
    mapping |= {"port": fields.pop("port", 80)}
    target = fields.pop("target", 8080)
    defaults = {
        "namespace": "demo",
        "cluster_ips": IPSet((f"10.96.0.{vip}",), (f"fd00:96::{vip}",)),
        "ports": (PortMapping(**mapping),),
    }
    service = Service(name=name, **{**defaults, **fields})
    endpoints = {
        f"pod-{number}": Endpoint(
            addresses=IPSet((f"10.1.0.{number}",), (f"fd00:1::{number}",)),
            ports=(EndpointPort(mapping["name"], target, mapping["protocol"]),),
            local=number in local,
            scopes=Scopes(number in internal, number in external, number in short),
        )
        for number in pods
    }
    return LocalService(service, endpoints)


@pytest.fixture
def make() -> Callable[..., LocalService]:
    return make_service
