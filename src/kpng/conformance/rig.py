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
from .flows import Flow, NodeFacts
from .packets import build
from .parsing import Found, parse
from .processes import connect, listen, socket_for, tokens_at
from .tracking import Tracking
from .tun import Tun

ATTEMPTS = {"dnat": 6, "reject": 3, "drop": 3, "none": 3}
"""Per flow, by what is expected. Refusals are few: a kernel may send no more than 50 at once (icmp_msgs_burst)."""
_PORTS = range(33000, 65000)
"""Ports to send from: above those of nodes' services."""
_LOOK_SECONDS = 0.001
_QUIET_SECONDS = 0.006
_PATIENCE_SECONDS = 0.15

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
        self, flows: Sequence[Flow], satisfied: Satisfied, attempts: int | None = None
    ) -> list[list[Seen]]:
        """Send each flow several times; what was seen of each. Silence is waited for."""
        packets: dict[int, list[Found]] = defaultdict(list)
        delivered: set[int] = set()
        with contextlib.ExitStack() as stack:
            listeners = [stack.enter_context(sock) for sock in self._listeners(flows)]
            tried = [self._try(flow, attempts or ATTEMPTS[flow.expect.verdict], stack, packets) for flow in flows]
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while True:
                await self._settle(packets)
                delivered.update(tokens_at(listeners))
                found = Evidence(packets, self._tracking.reply, delivered)
                seen = [[self._see(attempt, found) for attempt in each] for each in tried]
                if all(map(satisfied, flows, seen)) or time.monotonic() > deadline:
                    return seen

    def close(self) -> None:
        self._tracking.close()
        for device in self._devices.values():
            device.close()

    # -- sending -------------------------------------------------------------------------------------

    def _try(
        self, flow: Flow, attempts: int, stack: contextlib.ExitStack, packets: dict[int, list[Found]]
    ) -> list[Attempt]:
        made = []
        for _ in range(attempts):
            attempt = Attempt(flow, next(self._tokens), next(self._ports))
            if self._owns(flow.src_ip):
                attempt.socket = stack.enter_context(socket_for(flow))
                connect(attempt)
            else:
                device = self._devices[flow.in_iface or network.OUTSIDE]
                device.send(build(flow.proto, attempt.source, attempt.target, attempt.token))
            self._collect(packets)
            made.append(attempt)
        return made

    def _listeners(self, flows: Iterable[Flow]) -> Iterator[socket.socket]:
        """Servers wherever a flow may end on the node itself: an answer must not be taken for a refusal."""
        wanted = {
            (flow.proto, host, port)
            for flow in flows
            for host, port in [(flow.dst_ip, flow.dst_port), *map(endpoint_of, flow.expect.dnat_to)]
            if self._owns(host)
        }
        for protocol, host, port in sorted(wanted):
            with contextlib.suppress(OSError):  # the backend itself may listen there
                yield listen(protocol, host, port)

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
