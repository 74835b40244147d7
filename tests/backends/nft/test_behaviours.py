"""Behaviours by their ids (docs/semantics.md) that no other test of this folder is about: what is not touched, what
a change costs."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
from collections import Counter
from typing import Any

import pytest

from kpng.backends.nft import NftBackend
from kpng.backends.nft import guard as guard_module
from kpng.model import IPSet, Protocol
from kpng.testing import full_state

pytestmark = pytest.mark.netns

VIP = {4: "10.96.0.7", 6: "fd00:96::7"}
NODE = {4: "192.0.2.1", 6: "2001:db8:2::1"}
OUTSIDE = IPSet(("203.0.113.7",), ("2001:db8:99::7",))
EVERY_WAY: dict[str, Any] = {"node_port": 30080, "external_ips": OUTSIDE, "load_balancer_ips": OUTSIDE}
FAMILIES = pytest.mark.parametrize("family", [4, 6])


def machine(rig: Any) -> dict[str, str]:
    """What a proxy must leave alone, down to the neighbours it answers for."""
    commands = {
        "addresses": "ip -o address",
        "links": "ip -o link",
        "routes": "ip route show table all",
        "routes6": "ip -6 route show table all",
        "proxied": "ip neighbour show proxy",
        "sockets": "ss -Hnltuw",
    }
    return {name: rig.node.namespace.run(*command.split()) for name, command in commands.items()}


def test_c8_h9_nothing_of_the_machine_but_two_tables_is_touched(rig: Any, make: Any) -> None:
    """No address, no socket, no answer to ARP: a node port is no listener, and a service address is nobody's."""
    before = machine(rig)
    backend = rig.start()
    backend.set(make(**EVERY_WAY))
    assert rig.client.reach(NODE[4], 30080)
    after = machine(rig)
    for name, seen in before.items():
        assert after[name] == seen, name


@FAMILIES
def test_c6_another_protocol_at_the_same_address_and_port_is_not_served(rig: Any, make: Any, family: int) -> None:
    rig.start().set(make(**EVERY_WAY))
    with pytest.raises(ConnectionRefusedError):
        rig.client.reach(VIP[family], 80, protocol="udp")
    with pytest.raises(ConnectionRefusedError):
        rig.client.reach(NODE[family], 30080, protocol="udp")


@FAMILIES
def test_c5_one_client_is_spread_over_all(rig: Any, make: Any, family: int) -> None:
    """Without affinity the source does not matter: 120 connections to three pods, none below 20 (five sigma)."""
    rig.start().set(make())
    seen: Counter[str] = rig.client.count(120, VIP[family], 80)
    assert len(seen) == 3
    assert min(seen.values()) >= 20


def kernel_objects(rig: Any, family: str = "ip") -> Counter[str]:
    """What our table holds: chains, rules, and elements of all sets and maps."""
    listed = json.loads(rig.nft("-j", "list", "table", family, "kpng"))["nftables"]
    counts: Counter[str] = Counter()
    for each in listed:
        for kind, body in each.items():
            counts[kind] += 1
            counts["elements"] += len(body.get("elem", ())) if kind in ("set", "map") else 0
    return counts


def test_x17_a_change_reads_nothing_back_and_starts_no_program(
    rig: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction for one change, however many services there are; the kernel is not asked what it has."""
    backend = rig.start()
    services = [make(f"s{number}", vip=number) for number in range(20, 120)]
    backend.set(*services)
    monkeypatch.setattr(guard_module, "differences", lambda *_: pytest.fail("read back"))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    connection = backend.backend._connection
    monkeypatch.setattr(type(connection), "_dump", lambda *_: pytest.fail("the kernel was asked for what it has"))
    before = backend.generation()
    backend.set(*services[1:], make("s20", vip=20, pods=(1, 2)))
    monkeypatch.undo()
    assert backend.generation() == before + 1


def test_j4_a_service_of_one_family_is_nothing_to_the_other(rig: Any, make: Any) -> None:
    backend = rig.start()
    backend.set()
    before = kernel_objects(rig, "ip6")
    backend.set(make(cluster_ips=IPSet((VIP[4],)), node_port=0))
    after = kernel_objects(rig, "ip6")
    assert after["elements"] - before["elements"] <= 1  # the fingerprint
    assert VIP[6] not in rig.nft("list", "table", "ip6", "kpng")


def test_q11_killed_it_goes_on_forwarding(rig: Any, make: Any) -> None:
    """Rules do not depend on the process: its connection to the kernel is closed without a farewell."""
    backend = rig.start()
    backend.set(make(**EVERY_WAY))
    backend.runner.call(backend.backend._connection.close)
    assert rig.client.reach(VIP[4], 80)
    assert rig.client.reach(NODE[4], 30080)


@pytest.mark.parametrize("interface", ["all", "default"])
def test_j2_a_machine_with_ipv6_switched_off_serves_ipv4(node_runner: Any, make: Any, interface: str) -> None:
    """The table of IPv6 is there all the same, and does no harm."""
    node_runner.namespace.run("sysctl", "-qw", f"net.ipv6.conf.{interface}.disable_ipv6=1")

    async def program() -> None:
        backend = NftBackend()
        await backend.start()
        await backend.apply(full_state(make(**EVERY_WAY)))
        await backend.stop()

    node_runner.run(program())
    assert VIP[4] in node_runner.namespace.run("nft", "list", "table", "ip", "kpng")
    assert VIP[6] in node_runner.namespace.run("nft", "list", "table", "ip6", "kpng")


def sctp_init(source: int, destination: int) -> bytes:
    """An SCTP packet with an INIT chunk (RFC 9260, 3.3.2), without checksum: connection tracking must not look."""
    return struct.pack(">HHII", source, destination, 0, 0) + struct.pack(">BBHIIHHI", 1, 0, 20, 1, 65535, 10, 10, 1)


@FAMILIES
def test_h11_sctp_at_a_node_port(rig: Any, make: Any, family: int) -> None:
    """With packets made by hand, for the kernel may have no SCTP sockets."""
    rig.node.namespace.run("sysctl", "-qw", "net.netfilter.nf_conntrack_checksum=0")
    rig.start().set(make(protocol=Protocol.SCTP, node_port=30080))
    domain = socket.AF_INET if family == 4 else socket.AF_INET6
    receiver = rig.pods.call(lambda: socket.socket(domain, socket.SOCK_RAW, socket.IPPROTO_SCTP))
    sender = rig.client.call(lambda: socket.socket(domain, socket.SOCK_RAW, socket.IPPROTO_SCTP))
    with receiver, sender:
        receiver.settimeout(2)
        sender.sendto(sctp_init(40000, 30080), (NODE[family], 0))
        packet = receiver.recv(2048)
    _, port = struct.unpack_from(">HH", packet, 20 if family == 4 else 0)
    assert port == 8080
