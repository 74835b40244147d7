"""Real packets through a node in a network namespace. Names in brackets: docs/semantics.md."""

from __future__ import annotations

import socket
import struct
import subprocess
import time
from collections import Counter
from typing import Any

import pytest

from kpng.model import Endpoint, EndpointPort, IPSet, LocalService, PortMapping, Protocol, Service

pytestmark = pytest.mark.netns

VIP = {4: "10.96.0.7", 6: "fd00:96::7"}
OUTSIDE = {4: "203.0.113.7", 6: "2001:db8:99::7"}
NODE = {4: "192.0.2.1", 6: "2001:db8:2::1"}
NODE_INSIDE = {4: "10.1.0.254", 6: "fd00:1::fe"}
CLIENT = {4: "192.0.2.10", 6: "2001:db8:2::10"}  # the first of its addresses
PODS = {4: [f"10.1.0.{n}" for n in range(1, 6)], 6: [f"fd00:1::{n}" for n in range(1, 6)]}
CLIENTS = [f"192.0.2.{n}" for n in range(10, 16)]
BOTH = IPSet((OUTSIDE[4],), (OUTSIDE[6],))
FAMILIES = pytest.mark.parametrize("family", [4, 6])
REFUSED = (ConnectionRefusedError, PermissionError)


@FAMILIES
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_cluster_ip_forwards_to_each_endpoint_alike(rig: Any, make: Any, family: int, protocol: str) -> None:
    rig.start().set(make(protocol=Protocol[protocol.upper()]))
    seen = rig.client.count(300, VIP[family], 80, protocol=protocol)
    assert set(seen) == set(PODS[family][:3])
    # chi squared, 2 degrees of freedom: above 18.4 once in 10,000 runs
    assert sum((n - 100) ** 2 / 100 for n in seen.values()) < 18.4


@FAMILIES
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_node_port_at_every_address_of_the_node(rig: Any, make: Any, family: int, protocol: str) -> None:
    rig.start().set(make(node_port=30080, protocol=Protocol[protocol.upper()]))
    for address in (NODE[family], NODE_INSIDE[family]):
        pod, port, _ = rig.client.reach(address, 30080, protocol=protocol)
        assert pod in PODS[family][:3]
        assert port == 8080
    assert rig.node.reach(NODE[family], 30080, protocol=protocol)[0] in PODS[family][:3]


@FAMILIES
def test_node_port_not_at_loopback(rig: Any, make: Any, family: int) -> None:
    rig.start().set(make(node_port=30080))
    with pytest.raises(ConnectionRefusedError):
        rig.node.reach("127.0.0.1" if family == 4 else "::1", 30080)


@FAMILIES
@pytest.mark.parametrize("kind", ["external_ips", "load_balancer_ips"])
def test_outside_addresses(rig: Any, make: Any, family: int, kind: str) -> None:
    rig.start().set(make(**{kind: BOTH}))
    assert rig.client.reach(OUTSIDE[family], 80)[0] in PODS[family][:3]


@FAMILIES
def test_from_the_node_itself(rig: Any, make: Any, family: int) -> None:
    rig.start().set(make())
    assert rig.node.reach(VIP[family], 80)[0] in PODS[family][:3]


@FAMILIES
def test_endpoints_may_differ_in_their_port(rig: Any, family: int) -> None:
    """A named target port is another number in another pod; one pod does not serve it at all."""
    service = Service(
        namespace="demo",
        name="web",
        cluster_ips=IPSet((VIP[4],), (VIP[6],)),
        ports=(PortMapping(80, name="http", available=3),),
    )
    numbers = {1: ("http", 8080), 2: ("http", 8081), 3: ("other", 8080)}
    endpoints = {
        str(n): Endpoint(addresses=IPSet((PODS[4][n - 1],), (PODS[6][n - 1],)), ports=(EndpointPort(*port),))
        for n, port in numbers.items()
    }
    rig.start().set(LocalService(service, endpoints))
    seen = {rig.client.reach(VIP[family], 80)[:2] for _ in range(40)}
    assert seen == {(PODS[family][0], 8080), (PODS[family][1], 8081)}


SOURCES = [
    # options, frontend, Local policy, the endpoint sees the client's own address
    ({}, "cluster", False, True),
    ({"masquerade_all": True}, "cluster", False, False),
    ({"cluster_cidr": ("10.1.0.0/16,fd00:1::/64",)}, "cluster", False, False),
    ({"cluster_cidr": ("192.0.2.0/24", "2001:db8:2::/64")}, "cluster", False, True),
    ({}, "node", False, False),
    ({}, "outside", False, False),
    ({}, "node", True, True),
    ({}, "outside", True, True),
]


@FAMILIES
@pytest.mark.parametrize(("options", "frontend", "local", "own"), SOURCES)
def test_which_source_the_endpoint_sees(
    rig: Any, make: Any, family: int, options: dict[str, Any], frontend: str, local: bool, own: bool
) -> None:
    rig.start(**options).set(
        make(node_port=30080, external_ips=BOTH, external_traffic_local=local, local=(1, 2, 3))
    )
    address, port = {
        "cluster": (VIP[family], 80),
        "node": (NODE[family], 30080),
        "outside": (OUTSIDE[family], 80),
    }[frontend]
    assert rig.client.reach(address, port)[2] == (CLIENT[family] if own else NODE_INSIDE[family])


def test_a_node_port_of_another_service_does_not_masquerade_a_cluster_ip(rig: Any, make: Any) -> None:
    """A cluster IP's port may be the number of somebody's node port."""
    rig.start().set(make(port=30080), make("other", vip=8, node_port=30080))
    assert rig.client.reach(NODE[4], 30080)[2] == NODE_INSIDE[4]
    assert rig.client.reach(VIP[4], 30080)[2] == CLIENT[4]


@FAMILIES
def test_hairpin(rig: Any, make: Any, family: int) -> None:
    """A pod that reaches itself through its service sees the node as the client; other clients stay as they are."""
    rig.start().set(make(pods=(1,), local=(1,)))
    assert rig.pods.reach(VIP[family], 80, source=PODS[family][0])[2] == NODE_INSIDE[family]
    assert rig.client.reach(VIP[family], 80)[2] == CLIENT[family]


@FAMILIES
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("where", ["client", "node"])
@pytest.mark.parametrize("frontend", ["cluster", "node", "outside"])
def test_rejected_without_endpoints_anywhere(
    rig: Any, make: Any, family: int, protocol: str, where: str, frontend: str
) -> None:
    rig.start().set(make(pods=(), node_port=30080, external_ips=BOTH, protocol=Protocol[protocol.upper()]))
    addresses = {"cluster": (VIP, 80), "node": (NODE, 30080), "outside": (OUTSIDE, 80)}
    address, port = addresses[frontend]
    place = rig.client if where == "client" else rig.node
    with pytest.raises(REFUSED):
        place.reach(address[family], port, protocol=protocol, timeout=3)


@FAMILIES
@pytest.mark.parametrize("where", ["client", "node"])
@pytest.mark.parametrize("frontend", ["cluster", "node", "outside"])
def test_dropped_without_endpoints_in_scope(rig: Any, make: Any, family: int, where: str, frontend: str) -> None:
    rig.start().set(
        make(
            pods=(),
            available=3,
            node_port=30080,
            external_ips=BOTH,
            internal_traffic_local=True,
            external_traffic_local=True,
        )
    )
    addresses = {"cluster": (VIP, 80), "node": (NODE, 30080), "outside": (OUTSIDE, 80)}
    address, port = addresses[frontend]
    place = rig.client if where == "client" else rig.node
    with pytest.raises(TimeoutError):
        place.reach(address[family], port, timeout=0.25)


@FAMILIES
def test_scopes(rig: Any, make: Any, family: int) -> None:
    """Internal traffic goes to the endpoints for it, external traffic to others."""
    rig.start().set(make(pods=(1, 2, 3), internal=(1, 2), external=(3,), node_port=30080, external_ips=BOTH))
    assert set(rig.client.count(30, VIP[family], 80)) == set(PODS[family][:2])
    assert set(rig.client.count(10, NODE[family], 30080)) == {PODS[family][2]}
    assert set(rig.client.count(10, OUTSIDE[family], 80)) == {PODS[family][2]}


@FAMILIES
@pytest.mark.parametrize("where", ["client", "node", "pods"])
def test_other_ports_of_a_cluster_ip_are_rejected(rig: Any, make: Any, family: int, where: str) -> None:
    rig.start().set(make())
    place = getattr(rig, where)
    with pytest.raises(REFUSED):
        place.reach(VIP[family], 81, timeout=3)
    with pytest.raises(REFUSED):
        place.reach(VIP[family], 80, protocol="udp", timeout=3)


def test_other_ports_of_an_outside_address_are_left_alone(rig: Any, make: Any) -> None:
    """They may belong to the host, or to another load balancer."""
    rig.node.namespace.run("ip", "addr", "add", f"{OUTSIDE[4]}/32", "dev", "out")
    try:
        rig.start().set(make(external_ips=BOTH))
        server = rig.node.call(lambda: socket.create_server((OUTSIDE[4], 2222)))
        with server:
            assert rig.client.call(lambda: socket.create_connection((OUTSIDE[4], 2222), 1).close()) is None
    finally:
        rig.node.namespace.run("ip", "addr", "del", f"{OUTSIDE[4]}/32", "dev", "out")


def test_the_packet_mark_survives(rig: Any, make: Any) -> None:
    """The mark is borrowed within a rule only: marks that others set before are there afterwards."""
    rig.nft(
        "-f",
        "-",
        stdin="""table ip marks {
            counter kept { }
            counter lost { }
            chain before { type filter hook prerouting priority -150
                iif "out" meta mark set 0x1234
            }
            chain after { type filter hook postrouting priority 150
                oif "in" meta mark 0x1234 counter name kept
                oif "in" meta mark != 0x1234 counter name lost
            }
        }""",
    )
    services = [
        make("plain"),
        make("sticky", vip=8, session_affinity_seconds=5, node_port=30081),
        make("node", vip=9, node_port=30080),
    ]
    rig.start().set(*services)
    for address, port in ((VIP[4], 80), ("10.96.0.8", 80), (NODE[4], 30080), (NODE[4], 30081), ("10.1.0.1", 8080)):
        for _ in range(5):
            rig.client.reach(address, port)
    assert "packets 0 " not in rig.nft("list", "counter", "ip", "marks", "kept")
    assert "packets 0 " in rig.nft("list", "counter", "ip", "marks", "lost")


class TestAffinity:
    @FAMILIES
    def test_sticks(self, rig: Any, make: Any, family: int) -> None:
        rig.start().set(make(session_affinity_seconds=60))
        assert len(rig.client.count(30, VIP[family], 80)) == 1

    @FAMILIES
    def test_is_shared_by_all_frontends_of_a_service_port(self, rig: Any, make: Any, family: int) -> None:
        """[I1]"""
        rig.start().set(make(session_affinity_seconds=60, node_port=30080, external_ips=BOTH))
        seen = Counter[str]()
        for address, port in ((VIP, 80), (NODE, 30080), (OUTSIDE, 80)) * 5:
            seen[rig.client.reach(address[family], port)[0]] += 1
        assert len(seen) == 1

    def test_is_not_shared_by_services(self, rig: Any, make: Any) -> None:
        services = [make(f"s{n}", vip=n, session_affinity_seconds=60) for n in range(20, 50)]
        rig.start().set(*services)
        assert len({rig.client.reach(f"10.96.0.{n}", 80)[0] for n in range(20, 50)}) == 3

    def test_spreads_clients(self, rig: Any, make: Any) -> None:
        """Each client sticks, and not all to the same; with six clients that is nearly certain in ten services."""
        rig.start().set(*(make(f"s{n}", vip=n, session_affinity_seconds=60) for n in range(20, 30)))
        seen = {}
        for source in CLIENTS:
            for vip in range(20, 30):
                pods = {rig.client.reach(f"10.96.0.{vip}", 80, source=source)[0] for _ in range(3)}
                assert len(pods) == 1
                seen[source, vip] = pods.pop()
        assert any(len({seen[source, vip] for source in CLIENTS}) > 1 for vip in range(20, 30))

    def test_expires_and_is_refreshed_by_new_connections(self, rig: Any, make: Any) -> None:
        rig.start().set(make(session_affinity_seconds=2))
        first = rig.client.reach(VIP[4], 80)[0]
        for _ in range(3):  # three seconds in all: without refreshing it would be over
            time.sleep(1)
            assert rig.client.reach(VIP[4], 80)[0] == first
        seen = set()
        for _ in range(6):
            time.sleep(2.3)
            seen.add(rig.client.reach(VIP[4], 80)[0])
            if seen != {first}:
                break
        assert seen != {first}

    @FAMILIES
    def test_an_endpoint_that_goes_is_replaced_at_once(self, rig: Any, make: Any, family: int) -> None:
        backend = rig.start()
        backend.set(make(session_affinity_seconds=60))
        first = rig.client.reach(VIP[family], 80)[0]
        gone = PODS[family].index(first) + 1
        backend.set(make(session_affinity_seconds=60, pods=[n for n in (1, 2, 3) if n != gone]))
        after = rig.client.count(20, VIP[family], 80)
        assert len(after) == 1
        assert first not in after

    def test_other_changes_do_not_disturb_it(self, rig: Any, make: Any) -> None:
        backend = rig.start()
        backend.set(make(session_affinity_seconds=60))
        first = rig.client.reach(VIP[4], 80)[0]
        keep = PODS[4].index(first) + 1
        for pods in ([keep, 4, 5], [1, 2, 3, 4, 5], [keep]):
            backend.set(make(session_affinity_seconds=60, pods=pods), make("other", vip=8))
            assert set(rig.client.count(5, VIP[4], 80)) == {first}

    def test_survives_restart_and_replacement(self, rig: Any, make: Any) -> None:
        """The map of clients stays even where everything else is replaced (here: by another option)."""
        first = rig.start()
        first.set(make(session_affinity_seconds=60))
        pod = rig.client.reach(VIP[4], 80)[0]
        first.stop()
        second = rig.start(masquerade_all=True)
        second.set(make(session_affinity_seconds=60))
        assert set(rig.client.count(10, VIP[4], 80)) == {pod}

    def test_a_full_map_still_forwards(self, rig: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kpng.backends.nft.layout._CLIENTS_SIZE", 1)
        rig.start().set(make(session_affinity_seconds=60))
        for source in CLIENTS:
            assert len(rig.client.count(20, VIP[4], 80, source=source)) >= 1
        entries = rig.nft("list", "map", "ip", "kpng", "affinity_clients")
        assert entries.count("expires") == 1

    def test_switched_off(self, rig: Any, make: Any) -> None:
        backend = rig.start()
        backend.set(make(session_affinity_seconds=60))
        rig.client.reach(VIP[4], 80)
        backend.set(make())
        assert len(rig.client.count(60, VIP[4], 80)) == 3


@pytest.mark.parametrize("sticky", [0, 60])
def test_no_connection_is_lost_to_a_change(rig: Any, make: Any, sticky: int) -> None:
    """Scale a service between three and five endpoints while connecting: none fails (see proto-nft 1f)."""
    backend = rig.start()
    few, many = (
        make(pods=(1, 2, 3), session_affinity_seconds=sticky),
        make(pods=(4, 5, 1, 2, 3), session_affinity_seconds=sticky),
    )
    backend.set(few)
    counting = rig.client.start(lambda: _connect_for(2.0))
    commits = 0
    while not counting.done():
        backend.set(many if commits % 2 == 0 else few)
        commits += 1
    connects, failed = counting.result()
    assert commits > 100
    assert connects > 300
    assert failed == 0


def _connect_for(seconds: float) -> tuple[int, int]:
    end, done, failed = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        with socket.socket() as sock:
            sock.settimeout(0.5)
            try:
                sock.connect((VIP[4], 80))
                sock.recv(1)  # or the server's queue overflows, which is another kind of failure
            except OSError:
                failed += 1
        done += 1
    return done, failed


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _sctp_init(source: int, destination: int) -> bytes:
    """An SCTP packet with an INIT chunk (RFC 9260, 3.3.2)."""
    chunk = struct.pack(">BBHIIHHI", 1, 0, 20, 0x1234, 65535, 10, 10, 1)
    packet = struct.pack(">HHII", source, destination, 0, 0) + chunk
    checksum = struct.pack("<I", _crc32c(packet))
    return packet[:8] + checksum + packet[12:]


@FAMILIES
def test_sctp(rig: Any, make: Any, family: int) -> None:
    """With hand-made packets: this kernel may not have SCTP sockets, but connection tracking knows it."""
    rig.start().set(make(protocol=Protocol.SCTP))
    domain = socket.AF_INET if family == 4 else socket.AF_INET6
    receiver = rig.pods.call(lambda: socket.socket(domain, socket.SOCK_RAW, 132))
    sender = rig.client.call(lambda: socket.socket(domain, socket.SOCK_RAW, 132))
    with receiver, sender:
        receiver.settimeout(2)
        sender.sendto(_sctp_init(40000, 80), (VIP[family], 0))
        packet = receiver.recv(2048)
    header = packet[20:] if family == 4 else packet
    assert struct.unpack_from(">HH", header) == (40000, 8080)
    if family == 4:
        assert socket.inet_ntoa(packet[16:20]) in PODS[4][:3]


def test_nft_lists_the_ruleset(rig: Any, make: Any) -> None:
    """Others list the ruleset too: nft 1.0.6 aborts on some valid rules, and ours must not be such."""
    rig.start(cluster_cidr=("10.1.0.0/16", "fd00:1::/64")).set(
        make(node_port=30080, external_ips=BOTH, local=(1,)),
        make("sticky", vip=8, node_port=30081, session_affinity_seconds=60),
        make("rejected", vip=9, pods=()),
        make("dropped", vip=10, pods=(), available=3),
    )
    rig.client.reach("10.96.0.8", 80)
    listed = rig.nft("list", "ruleset")
    assert "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 3 map @endpoints" in listed
    assert "10.96.0.7 . tcp . 80 . 0 : 10.1.0.1 . 8080" in listed
    assert (
        '"table"'
        in subprocess.run(
            rig.node.namespace.argv("nft", "-j", "list", "ruleset"), capture_output=True, text=True, check=True
        ).stdout
    )
