"""The rig: sends a scenario's flows to the node, and finds out what became of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from kpng.lab.netns import Namespace

from . import network
from .attempts import Attempt, Evidence, Seen, see
from .endpoints import endpoint_of
from .flows import Expectation, Flow, NodeFacts
from .packets import TOKEN, build
from .parsing import Found, parse
from .tracking import Tracking
from .tun import Tun

ATTEMPTS = {"dnat": 6, "reject": 3, "drop": 3, "none": 3}
"""Per flow, by what is expected. Refusals are few: a kernel may send no more than 50 at once (icmp_msgs_burst)."""
_PORTS = range(33000, 65000)
"""Ports to send from: above those of nodes' services."""
_LOOK_SECONDS = 0.001
_QUIET_SECONDS = 0.006
_PATIENCE_SECONDS = 0.15

_TCP_REPAIR, _TCP_REPAIR_QUEUE, _TCP_QUEUE_SEQUENCE = 19, 20, 21
_SEND_QUEUE, _REPAIR_OFF_SILENTLY = 2, -1
"""linux/tcp.h"""

_KINDS = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0), "sctp": (socket.SOCK_STREAM, 132)}

Satisfied = Callable[[Flow, Sequence[Seen]], bool]


class Rig:
    """A node's network in this thread's namespace. Close it."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._node: NodeFacts | None = None
        network.prepare(namespace)
        self._devices: dict[str, Tun] = {}
        self._tracking = Tracking()
        self._ports = itertools.cycle(_PORTS)
        self._tokens = itertools.count(1)

    def become(self, node: NodeFacts, devices: Iterable[str]) -> None:
        """Be this node, with these devices besides the one to the outside, and with no connections yet."""
        for name in {network.OUTSIDE, *devices} - self._devices.keys():
            self._devices[name] = network.open_device(self._namespace, name)
        if self._node is None or self._node.local_ips != node.local_ips:
            network.configure(self._namespace, node)
        self._node = node
        self._tracking.forget()
        for device in self._devices.values():
            for _ in device.received():
                pass

    async def send(
        self, flows: Sequence[tuple[Flow, Expectation]], satisfied: Satisfied, attempts: int | None = None
    ) -> list[list[Seen]]:
        """Send each flow several times; what was seen of each. Silence is waited for."""
        packets: dict[int, list[Found]] = defaultdict(list)
        delivered: set[int] = set()
        with contextlib.ExitStack() as stack:
            listeners = [stack.enter_context(sock) for sock in self._listeners(flows)]
            tried = [
                self._try_flow(flow, attempts or ATTEMPTS[expected.verdict], stack, packets)
                for flow, expected in flows
            ]
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while True:
                await self._settle(packets)
                delivered.update(_tokens_at(listeners))
                found = Evidence(packets, self._tracking.reply, delivered)
                seen = [[self._see(attempt, found) for attempt in each] for each in tried]
                done = all(map(satisfied, (flow for flow, _ in flows), seen))
                if done or time.monotonic() > deadline:
                    return seen

    def close(self) -> None:
        self._tracking.close()
        for device in self._devices.values():
            device.close()

    # -- sending -------------------------------------------------------------------------------------

    def _try_flow(
        self, flow: Flow, attempts: int, stack: contextlib.ExitStack, packets: dict[int, list[Found]]
    ) -> list[Attempt]:
        made = []
        for _ in range(attempts):
            attempt = Attempt(flow, next(self._tokens), next(self._ports))
            if self._owns(flow.src_ip):
                attempt.socket = stack.enter_context(_socket_for(flow))
                _connect(attempt)
            else:
                device = self._devices[flow.in_iface or network.OUTSIDE]
                device.send(build(flow.proto, attempt.source, attempt.target, attempt.token))
            self._collect(packets)
            made.append(attempt)
        return made

    def _listeners(self, flows: Iterable[tuple[Flow, Expectation]]) -> Iterator[socket.socket]:
        """Servers wherever a flow may end on the node itself: an answer must not be taken for a refusal."""
        wanted = {
            (flow.proto, host, port)
            for flow, expected in flows
            for host, port in [(flow.dst_ip, flow.dst_port), *map(endpoint_of, expected.dnat_to)]
            if self._owns(host)
        }
        for protocol, host, port in sorted(wanted):
            with contextlib.suppress(OSError):  # the backend itself may listen there
                yield _listen(protocol, host, port)

    def _owns(self, address: str) -> bool:
        assert self._node is not None, "send before become"
        return self._node.owns(address)

    # -- collecting ----------------------------------------------------------------------------------

    async def _settle(self, packets: dict[int, list[Found]]) -> None:
        """Collect until nothing has come for a moment."""
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < _QUIET_SECONDS:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._collect(packets):
                quiet_since = time.monotonic()

    def _collect(self, packets: dict[int, list[Found]]) -> bool:
        found = [parse(packet) for device in self._devices.values() for packet in device.received()]
        for each in found:
            if each is not None:
                packets[each.token].append(each)
        return bool(found)

    def _see(self, attempt: Attempt, evidence: Evidence) -> Seen:
        attempt.take_error()
        return see(attempt, evidence, target_is_local=self._owns(attempt.flow.dst_ip))


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _socket_for(flow: Flow) -> socket.socket:
    return socket.socket(_family(flow.src_ip), *_KINDS[flow.proto])


def _connect(attempt: Attempt) -> None:
    """Begin a connection; what the kernel says at once is kept."""
    assert attempt.socket is not None
    attempt.socket.setblocking(False)
    try:
        if attempt.flow.proto == "tcp":
            _begin_with(attempt.socket, attempt.token)
        attempt.socket.bind(attempt.source)
        attempt.socket.connect(attempt.target)
        if attempt.flow.proto == "udp":
            attempt.socket.send(TOKEN.pack(attempt.token))
    except BlockingIOError:
        pass
    except OSError as error:
        attempt.error = error.errno or 0


def _begin_with(sock: socket.socket, token: int) -> None:
    """Have TCP take the token for its initial sequence number (tcp_v4_connect only chooses where there is none)."""
    for option, value in (
        (_TCP_REPAIR, 1),
        (_TCP_REPAIR_QUEUE, _SEND_QUEUE),
        (_TCP_QUEUE_SEQUENCE, token),
        (_TCP_REPAIR, _REPAIR_OFF_SILENTLY),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _listen(protocol: str, host: str, port: int) -> socket.socket:
    sock = socket.socket(_family(host), *_KINDS[protocol])
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((host, port))
        if protocol != "udp":
            sock.listen(4096)
    except OSError:
        sock.close()
        raise
    return sock


def _tokens_at(listeners: Iterable[socket.socket]) -> Iterator[int]:
    for sock in listeners:
        with contextlib.suppress(OSError):
            while sock.type == socket.SOCK_DGRAM:
                yield TOKEN.unpack_from(sock.recv(100).ljust(TOKEN.size, b"\0"))[0]
