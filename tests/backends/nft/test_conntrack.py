"""Conntrack reconciliation with real flows: one UDP socket of a client goes on sending while the service changes.

Names in brackets: section O of the requirement, and its list of defects (X).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from kpng.backends import run_backend
from kpng.backends.conntrack import ConntrackReconciler
from kpng.backends.nft import NftBackend
from kpng.host.conntrack import Conntrack, Flow, Query, socket_address
from kpng.model import ChangeSet, IPSet, LocalService, Protocol, ServiceChange

pytestmark = pytest.mark.netns

VIP = {4: "10.96.0.7", 6: "fd00:96::7"}
OUTSIDE = {4: "203.0.113.7", 6: "2001:db8:99::7"}
NODE = {4: "192.0.2.1", 6: "2001:db8:2::1"}
CLIENT = {4: "192.0.2.10", 6: "2001:db8:2::10"}
PODS = {4: [f"10.1.0.{n}" for n in range(1, 6)], 6: [f"fd00:1::{n}" for n in range(1, 6)]}
SOCKET_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
FAMILIES = pytest.mark.parametrize("family", [4, 6])
BOTH = IPSet((OUTSIDE[4],), (OUTSIDE[6],))


class Client:
    """One UDP socket: its port stays the same, so to the kernel all it sends is one flow."""

    def __init__(self, rig: Any, address: str, port: int) -> None:
        self._place = rig.client
        self._peer = (address, port)
        self._socket = self._place.call(self._open)

    def _open(self) -> socket.socket:
        version = 6 if ":" in self._peer[0] else 4
        made = socket.socket(SOCKET_FAMILY[version], socket.SOCK_DGRAM)
        made.bind((CLIENT[version], 0))
        made.connect(self._peer)
        return made

    def ask(self) -> tuple[str, int]:
        """Who answers: address and port. Raises `OSError`: nobody does, or we were told that nobody will."""
        self._socket.settimeout(0)
        with contextlib.suppress(OSError):  # word of an earlier packet
            self._socket.recv(200)
        self._socket.settimeout(0.3)
        return self._place.call(self._ask)

    def _ask(self) -> tuple[str, int]:
        self._socket.send(b"?")
        address, port, _ = self._socket.recv(200).decode().split()
        return address, int(port)

    def answered(self) -> bool:
        try:
            self.ask()
        except OSError:
            return False
        return True

    def close(self) -> None:
        self._socket.close()


class Node:
    """The backend and the reconciler, as the runtime drives them."""

    def __init__(self, rig: Any) -> None:
        self.rig = rig
        self.programmed = rig.start()
        self.reconciler = ConntrackReconciler()
        self.programmed_apply = self.programmed.apply
        self.programmed.apply = self._apply
        self.reconciling = True

    def _apply(self, changes: ChangeSet) -> None:
        self.programmed_apply(changes)
        self.reconciler.note(changes)
        if self.reconciling:
            self.reconcile()

    def set(self, *services: LocalService) -> None:
        self.programmed.set(*services)

    def reconcile(self) -> int:
        return self.rig.runner.run(self.reconciler.reconcile())

    def restart(self) -> None:
        """A new process: knows nothing, gets everything."""
        self.reconciler.close()
        self.reconciler = ConntrackReconciler()
        state = {key: ServiceChange(None, local) for key, local in self.programmed.state.items()}
        self.reconciler.note(ChangeSet(state, full=True))

    def flows(self, family: int, protocol: int = socket.IPPROTO_UDP) -> list[Flow]:
        conntrack = self.rig.runner.call(Conntrack)
        try:
            return self.rig.runner.call(lambda: list(conntrack.flows(Query(SOCKET_FAMILY[family], protocol))))
        finally:
            conntrack.close()

    def identity(self, family: int, destination: str, port: int) -> list[bytes]:
        """The flows to a destination, by what does not change while they live (CTA_ID and tuples)."""
        where = socket_address(destination, port)
        return sorted(_id(flow) for flow in self.flows(family) if flow.destination == where)


def _id(flow: Flow) -> bytes:
    place = flow.message.index(b"\x08\x00\x0c\x00")
    return flow.message[place : place + 8]


@pytest.fixture
def node(rig: Any) -> Iterator[Node]:
    made = Node(rig)
    rig.node.namespace.run("sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=120")
    conntrack = rig.runner.call(Conntrack)
    try:
        for family in SOCKET_FAMILY.values():
            rig.runner.call(lambda f=family: conntrack.delete(list(conntrack.flows(Query(f)))))
        yield made
    finally:
        conntrack.close()
        made.reconciler.close()


@pytest.fixture
def clients(rig: Any) -> Iterator[Any]:
    made: list[Client] = []

    def connect(address: str, port: int) -> Client:
        made.append(Client(rig, address, port))
        return made[-1]

    try:
        yield connect
    finally:
        for client in made:
            client.close()


@pytest.fixture
def udp(make: Any) -> Any:
    def service(**fields: Any) -> LocalService:
        return make(**{"protocol": Protocol.UDP, **fields})

    return service


@FAMILIES
def test_o3_endpoint_replaced(node: Node, clients: Any, udp: Any, family: int) -> None:
    node.set(udp(pods=(1,)))
    client = clients(VIP[family], 80)
    assert client.ask() == (PODS[family][0], 8080)
    node.reconciling = False
    node.set(udp(pods=(2,)))
    assert client.ask() == (PODS[family][0], 8080), "without reconciliation the flow goes where it went"
    assert node.reconcile() == 1
    assert client.ask() == (PODS[family][1], 8080)


@FAMILIES
def test_o3_one_endpoint_of_several_gone(node: Node, clients: Any, udp: Any, family: int) -> None:
    """Those at the other endpoints keep theirs, with the very same entry in the kernel."""
    node.set(udp(pods=(1, 2)))
    asked = [clients(VIP[family], 80) for _ in range(16)]
    before = {client: client.ask()[0] for client in asked}
    assert set(before.values()) == set(PODS[family][:2]), "16 clients all at one: once in 32,768 runs"
    kept = [client for client in asked if before[client] == PODS[family][1]]
    ids = set(node.identity(family, VIP[family], 80))
    node.set(udp(pods=(2,)))
    left = set(node.identity(family, VIP[family], 80))
    assert left < ids
    assert len(left) == len(kept)
    assert {client.ask()[0] for client in asked} == {PODS[family][1]}
    assert left < set(node.identity(family, VIP[family], 80))


@FAMILIES
def test_o6_some_to_none_and_back(node: Node, clients: Any, udp: Any, family: int) -> None:
    node.set(udp(pods=(1,)))
    client = clients(VIP[family], 80)
    assert client.answered()
    node.set(udp(pods=()))
    with pytest.raises((ConnectionRefusedError, PermissionError)):
        client.ask()
    node.set(udp(pods=(3,)))
    assert client.ask() == (PODS[family][2], 8080)


@FAMILIES
def test_o3_the_client_was_there_before_the_service(node: Node, clients: Any, udp: Any, family: int) -> None:
    """Its packets went to the address itself, untranslated; without reconciliation they would go on doing so."""
    node.set(udp(name="other", vip=8, pods=(2,)))
    client = clients(VIP[family], 80)
    assert not client.answered()
    assert len(node.identity(family, VIP[family], 80)) == 1
    node.reconciling = False
    node.set(udp(pods=(1,)), *node.programmed.state.values())
    assert not client.answered()
    node.reconcile()
    assert client.ask() == (PODS[family][0], 8080)


@FAMILIES
def test_o6_service_gone(node: Node, clients: Any, udp: Any, family: int) -> None:
    node.set(udp(pods=(1,)))
    client = clients(VIP[family], 80)
    assert client.answered()
    node.set()
    assert node.identity(family, VIP[family], 80) == []
    assert not client.answered()


@FAMILIES
def test_o3_target_port_changed(node: Node, clients: Any, udp: Any, family: int) -> None:
    node.set(udp(pods=(1,), target=8080))
    client = clients(VIP[family], 80)
    assert client.ask() == (PODS[family][0], 8080)
    node.set(udp(pods=(1,), target=8081))
    assert client.ask() == (PODS[family][0], 8081)


@FAMILIES
@pytest.mark.parametrize("kind", ["external_ips", "load_balancer_ips"])
def test_x7_address_added(node: Node, clients: Any, udp: Any, family: int, kind: str) -> None:
    """A change of the service alone."""
    node.set(udp(pods=(1,)))
    client = clients(OUTSIDE[family], 80)
    assert not client.answered()
    node.set(udp(pods=(1,), **{kind: BOTH}))
    assert client.ask() == (PODS[family][0], 8080)


@FAMILIES
def test_x7_port_added(node: Node, clients: Any, udp: Any, family: int) -> None:
    node.set(udp(pods=(1,), external_ips=BOTH))
    client = clients(OUTSIDE[family], 81)
    assert not client.answered()
    node.set(udp(pods=(1,), external_ips=BOTH, port=81))
    assert client.ask() == (PODS[family][0], 8080)


@FAMILIES
@pytest.mark.parametrize("kind", ["external_ips", "load_balancer_ips"])
def test_o3_outside_addresses(node: Node, clients: Any, udp: Any, family: int, kind: str) -> None:
    node.set(udp(pods=(1,), **{kind: BOTH}))
    client = clients(OUTSIDE[family], 80)
    assert client.ask()[0] == PODS[family][0]
    node.set(udp(pods=(2,), **{kind: BOTH}))
    assert client.ask()[0] == PODS[family][1]


@FAMILIES
def test_o4_node_port(node: Node, clients: Any, udp: Any, family: int) -> None:
    node.set(udp(pods=(1,), node_port=30080))
    client = clients(NODE[family], 30080)
    assert client.ask()[0] == PODS[family][0]
    node.set(udp(pods=(2,), node_port=30080))
    assert client.ask()[0] == PODS[family][1]


@FAMILIES
def test_x7_the_same_port_of_another_machine(node: Node, clients: Any, udp: Any, family: int) -> None:
    """A flow through this node to a host outside, whose port happens to be the node port."""
    foreign = clients(PODS[family][4], 8081)
    assert foreign.ask() == (PODS[family][4], 8081)
    before = node.identity(family, PODS[family][4], 8081)
    node.set(udp(pods=(1,), node_port=8081))
    node.set(udp(pods=(2,), node_port=8081))
    node.set(udp(pods=(), node_port=8081))
    node.set()
    node.restart()
    node.reconcile()
    assert node.identity(family, PODS[family][4], 8081) == before
    assert foreign.ask() == (PODS[family][4], 8081)


@FAMILIES
def test_o1_tcp_is_left_alone(node: Node, rig: Any, make: Any, udp: Any, family: int) -> None:
    """An established connection goes on until its endpoint ends it, whatever happens to the service."""
    tcp = make(name="tcp", vip=9, pods=(1,))
    node.set(tcp, udp(pods=(1,)))
    server = rig.pods.call(lambda: _listening(PODS[family][0], 9090))
    node.set(make(name="tcp", vip=9, pods=(1,), target=9090), udp(pods=(1,)))
    address = VIP[family].replace("7", "9") if family == 4 else "fd00:96::9"
    with server, rig.client.call(lambda: socket.create_connection((address, 80), timeout=1)) as connection:
        accepted, _ = server.accept()
        with accepted:
            tracked = [_id(flow) for flow in node.flows(family, socket.IPPROTO_TCP)]
            node.set(make(name="tcp", vip=9, pods=(2,), target=8080), udp(pods=(2,)))
            node.set(udp(pods=(3,)))
            node.set()
            node.restart()
            node.reconcile()
            assert [_id(flow) for flow in node.flows(family, socket.IPPROTO_TCP)] == tracked
            connection.sendall(b"still there?")
            accepted.settimeout(1)
            assert accepted.recv(100) == b"still there?"


def _listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.create_server((address, port), family=family)
    made.settimeout(1)
    return made


@FAMILIES
def test_a_restart_keeps_flows_and_finds_what_went_meanwhile(
    node: Node, clients: Any, udp: Any, family: int
) -> None:
    steady, moving = udp(pods=(1,)), udp(name="moving", vip=8, pods=(2,))
    node.set(steady, moving)
    first, second = clients(VIP[family], 80), clients(VIP[family].replace("7", "8"), 80)
    assert first.ask()[0] == PODS[family][0]
    assert second.ask()[0] == PODS[family][1]
    before = node.identity(family, VIP[family], 80)
    node.reconciling = False
    node.set(steady, udp(name="moving", vip=8, pods=(3,)))
    node.restart()
    assert node.reconcile() == 1
    assert node.identity(family, VIP[family], 80) == before
    assert first.ask()[0] == PODS[family][0]
    assert second.ask()[0] == PODS[family][2]
    node.restart()
    assert node.reconcile() == 0


@FAMILIES
def test_o5_a_policy_does_not_break_flows(node: Node, clients: Any, udp: Any, family: int) -> None:
    """From Cluster to Local: the endpoint elsewhere gets no new flows at this address, but still serves."""
    node.set(udp(pods=(1, 2), local=(1,)))
    asked = [clients(VIP[family], 80) for _ in range(16)]
    before = [client.ask()[0] for client in asked]
    assert set(before) == set(PODS[family][:2]), "16 clients all at one: once in 32,768 runs"
    node.set(udp(pods=(1, 2), local=(1,), internal=(1,), internal_traffic_local=True))
    assert [client.ask()[0] for client in asked] == before
    assert clients(VIP[family], 80).ask()[0] == PODS[family][0]


def test_it_reconciles_while_packets_flow(node: Node, rig: Any, clients: Any, udp: Any) -> None:
    """Driven as in production: `run` in the background, changes noted as they are applied."""
    node.reconciling = False
    node.set(udp(pods=(1,)))
    client = clients(VIP[4], 80)
    assert client.ask()[0] == PODS[4][0]

    async def apply_and_wait() -> None:
        running = asyncio.create_task(node.reconciler.run())
        async with asyncio.timeout(5):
            while node.reconciler.removed == 0:  # noqa: ASYNC110 - a counter, not an event
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    node.set(udp(pods=(2,)))
    rig.runner.run(apply_and_wait())
    assert client.ask()[0] == PODS[4][1]


def test_the_runtime_drives_it(rig: Any, node: Node, clients: Any, udp: Any) -> None:
    """All parts together, as a process has them: the client's socket goes on, its packets go elsewhere."""
    first, second = udp(pods=(1,)), udp(pods=(2,))
    key = first.service.key
    client = clients(VIP[4], 80)
    seen = []

    async def changes() -> AsyncIterator[ChangeSet]:
        yield ChangeSet({key: ServiceChange(None, first)}, full=True)
        await asyncio.sleep(0.5)
        seen.append(await asyncio.to_thread(client.ask))
        yield ChangeSet({key: ServiceChange(first, second)})
        await asyncio.sleep(1)
        seen.append(await asyncio.to_thread(client.ask))

    node.programmed.stop()
    rig.runner.run(run_backend(NftBackend(), changes()))
    assert seen == [(PODS[4][0], 8080), (PODS[4][1], 8080)]
