"""Which ICMP errors a client gets: port unreachable, for TCP too, as kube-proxy does [E1, E4]."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from typing import Any

import pytest

from kpng.model import IPSet, Protocol

pytestmark = pytest.mark.netns

VIP = {4: "10.96.0.7", 6: "fd00:96::7"}
NODE = {4: "192.0.2.1", 6: "2001:db8:2::1"}
OUTSIDE = {4: "203.0.113.7", 6: "2001:db8:99::7"}
ADDRESSES = IPSet((OUTSIDE[4],), (OUTSIDE[6],))
PORT_UNREACHABLE = {4: (3, 3), 6: (1, 4)}
DOMAIN = {4: socket.AF_INET, 6: socket.AF_INET6}
PROTOCOL_NUMBER = {"tcp": 6, "udp": 17}
FAMILIES = pytest.mark.parametrize("family", [4, 6])
PROTOCOLS = pytest.mark.parametrize("protocol", ["tcp", "udp"])


class Errors:
    """The ICMP errors that come to a namespace: (type, code, protocol and destination port of the packet)."""

    def __init__(self, place: Any, family: int) -> None:
        self._family = family
        number = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
        self._socket = place.call(lambda: socket.socket(DOMAIN[family], socket.SOCK_RAW, number))

    def __enter__(self) -> Errors:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def until(self, seconds: float) -> list[tuple[int, int, int, int]]:
        found = []
        end = time.monotonic() + seconds
        while select.select([self._socket], [], [], max(0.0, end - time.monotonic()))[0]:
            packet = self._socket.recv(2048)
            found += self._read(packet[(packet[0] & 15) * 4 :] if self._family == 4 else packet)
            if found:
                return found
        return found

    def _read(self, message: bytes) -> list[tuple[int, int, int, int]]:
        """Neighbour discovery and echoes are no errors."""
        kind, code = message[:2]
        if kind != PORT_UNREACHABLE[self._family][0]:
            return []
        inner = message[8:]
        length, place = ((inner[0] & 15) * 4, 9) if self._family == 4 else (40, 6)
        protocol = inner[place]
        port = struct.unpack_from(">H", inner, length + 2)[0] if protocol in (6, 17) else 0
        return [(kind, code, protocol, port)]


def errors_for(place: Any, family: int, protocol: str, address: str, port: int) -> list[tuple[int, int, int, int]]:
    """What comes back for one packet."""
    with Errors(place, family) as errors:
        with contextlib.suppress(OSError):
            place.reach(address, port, protocol=protocol, timeout=0.2)
        return errors.until(1.0)


FRONTENDS = pytest.mark.parametrize(
    ("address", "port"), [(VIP, 80), (NODE, 30080), (OUTSIDE, 80)], ids=["cluster", "node", "outside"]
)


@FAMILIES
@PROTOCOLS
@FRONTENDS
def test_without_endpoints(
    rig: Any, make: Any, family: int, protocol: str, address: dict[int, str], port: int
) -> None:
    """[E1] No reset, although TCP would have one: the proxy is not the one that was connected to."""
    kind = Protocol[protocol.upper()]
    rig.start().set(make(pods=(), node_port=30080, external_ips=ADDRESSES, protocol=kind))
    found = errors_for(rig.client, family, protocol, address[family], port)
    assert found[0] == (*PORT_UNREACHABLE[family], PROTOCOL_NUMBER[protocol], port)


@FAMILIES
@PROTOCOLS
def test_another_port_of_a_cluster_ip(rig: Any, make: Any, family: int, protocol: str) -> None:
    """[E4]"""
    rig.start().set(make())
    found = errors_for(rig.client, family, protocol, VIP[family], 81)
    assert found[0] == (*PORT_UNREACHABLE[family], PROTOCOL_NUMBER[protocol], 81)


@FAMILIES
def test_a_cluster_ip_does_not_answer_to_ping(rig: Any, make: Any, family: int) -> None:
    """[E4] Any other protocol is refused as well."""
    rig.start().set(make())
    echo = struct.pack(">BBHHH", 8, 0, 0xF7FF - 1, 1, 0) if family == 4 else struct.pack(">BBHHH", 128, 0, 0, 1, 0)
    number = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
    sender = rig.client.call(lambda: socket.socket(DOMAIN[family], socket.SOCK_RAW, number))
    with sender, Errors(rig.client, family) as errors:
        sender.sendto(echo, (VIP[family], 0))
        found = errors.until(2.0)
    assert found[0] == (*PORT_UNREACHABLE[family], number, 0)


@FAMILIES
@FRONTENDS
def test_dropped_is_silent(rig: Any, make: Any, family: int, address: dict[int, str], port: int) -> None:
    """[E2, E3] Endpoints elsewhere and a Local policy: load balancers must see a timeout, not a refusal."""
    rig.start().set(
        make(
            pods=(),
            available=3,
            node_port=30080,
            external_ips=ADDRESSES,
            internal_traffic_local=True,
            external_traffic_local=True,
        )
    )
    assert errors_for(rig.client, family, "tcp", address[family], port) == []
