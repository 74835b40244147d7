"""loadBalancerSourceRanges (G1 to G8, E7, A13; X11), with real packets, and as elements."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from kpng.backends.nft.contents import contents
from kpng.backends.nft.frontends import frontends
from kpng.backends.nft.intervals import show_interval
from kpng.backends.nft.layout import Layout
from kpng.backends.nft.options import Options
from kpng.backends.nft.verify import differences
from kpng.model import Family, IPSet, LocalNode, PortMapping, Protocol

LOAD_BALANCER = {4: "203.0.113.7", 6: "2001:db8:99::7"}
SECOND = "203.0.113.8"
EXTERNAL = {4: "203.0.113.9", 6: "2001:db8:99::9"}
VIP = {4: "10.96.0.7", 6: "fd00:96::7"}
NODE = {4: "192.0.2.1", 6: "2001:db8:2::1"}
CLIENT = {4: "192.0.2.10", 6: "2001:db8:2::10"}
BOTH = IPSet((LOAD_BALANCER[4], SECOND), (LOAD_BALANCER[6],))
FAMILIES = pytest.mark.parametrize("family", [4, 6])
OPEN = ("192.0.2.0/24", "2001:db8:2::/64")
CLOSED = ("198.18.0.0/15", "2001:db8:dead::/64")


def guarded(make: Any, ranges: tuple[str, ...], **fields: Any) -> Any:
    return make(load_balancer_ips=BOTH, source_ranges=ranges, **fields)


def dropped(place: Any, address: str, port: int = 80, **options: Any) -> bool:
    try:
        place.reach(address, port, **{"timeout": 0.15, **options})
    except TimeoutError:
        return True
    return False


# ranges, whether the client (192.0.2.10, 2001:db8:2::10) may use the load balancer's IPv4 and IPv6 addresses
RANGES = [
    ((), True, True),
    (OPEN, True, True),
    (CLOSED, False, False),
    ((*CLOSED, *OPEN), True, True),
    (("192.0.2.10/32", "2001:db8:2::10/128"), True, True),
    (("192.0.2.8/31", "2001:db8:2::11/128"), False, False),
    (("192.0.2.0/24",), True, False),  # X11: ranges of one family close the other
    (("2001:db8:2::/64",), False, True),
    (("0.0.0.0/0", "2001:db8:dead::/64"), True, False),  # A13: /0 lets its own family in
    (("198.18.0.0/15", "::/0"), False, True),
    (("192.0.2.0/24", "192.0.2.0/25", "192.0.2.8/29", "192.0.0.0/16"), True, False),  # G7: overlaps
    (("192.0.2.0/29", "192.0.2.8/29"), True, False),  # next to each other
]


@pytest.mark.netns
@pytest.mark.parametrize(("ranges", "v4", "v6"), RANGES)
def test_g4_a13_x11_who_may(rig: Any, make: Any, ranges: tuple[str, ...], v4: bool, v6: bool) -> None:
    rig.start().set(guarded(make, ranges))
    assert dropped(rig.client, LOAD_BALANCER[4]) is not v4
    assert dropped(rig.client, SECOND) is not v4  # G6
    assert dropped(rig.client, LOAD_BALANCER[6]) is not v6


@pytest.mark.netns
@FAMILIES
@pytest.mark.parametrize("where", ["client", "node"])
def test_g2_h8_only_the_load_balancer_is_guarded(rig: Any, make: Any, family: int, where: str) -> None:
    outside = IPSet((EXTERNAL[4],), (EXTERNAL[6],))
    rig.start().set(guarded(make, CLOSED, node_port=30080, external_ips=outside))
    place = getattr(rig, where)
    assert dropped(place, LOAD_BALANCER[family])
    for address, port in ((VIP[family], 80), (EXTERNAL[family], 80), (NODE[family], 30080)):
        assert place.reach(address, port)


@pytest.mark.netns
@FAMILIES
def test_g4_pods_and_the_node_are_filtered_as_anybody(rig: Any, make: Any, family: int) -> None:
    rig.start(cluster_cidr=("10.1.0.0/16,fd00:1::/64",)).set(guarded(make, OPEN, pods=(1,), local=(1,)))
    assert dropped(rig.pods, LOAD_BALANCER[family], source={4: "10.1.0.1", 6: "fd00:1::1"}[family])
    assert dropped(rig.node, LOAD_BALANCER[family], source={4: "10.1.0.254", 6: "fd00:1::fe"}[family])
    assert rig.node.reach(LOAD_BALANCER[family], 80, source=NODE[family])


@pytest.mark.netns
@FAMILIES
@pytest.mark.parametrize("fields", [{"available": 0}, {"available": 3, "external_traffic_local": True}])
def test_e7_before_anything_else(rig: Any, make: Any, family: int, fields: dict[str, Any]) -> None:
    """A service without endpoints drops those who may not use it, and refuses only those who may."""
    backend = rig.start()
    backend.set(guarded(make, CLOSED, pods=(), **fields))
    assert dropped(rig.client, LOAD_BALANCER[family], timeout=0.3)
    backend.set(guarded(make, OPEN, pods=(), available=0))
    assert not _refused_within(rig, LOAD_BALANCER[family])


def _refused_within(rig: Any, address: str) -> str:
    try:
        rig.client.reach(address, 80, timeout=3)
    except (ConnectionRefusedError, PermissionError):
        return ""
    return "neither refused nor dropped"


@pytest.mark.netns
def test_g3_established_connections_survive_a_narrowing(rig: Any, make: Any) -> None:
    listener = rig.pods.call(lambda: socket.create_server(("10.1.0.1", 9000)))
    backend = rig.start()
    backend.set(guarded(make, OPEN, pods=(1,), target=9000))
    with (
        listener,
        rig.client.call(lambda: socket.create_connection((LOAD_BALANCER[4], 80), 2)) as client,
    ):
        server, _ = listener.accept()
        with server:
            backend.set(guarded(make, CLOSED, pods=(1,), target=9000))
            client.send(b"still here")
            assert server.recv(100) == b"still here"
            assert dropped(rig.client, LOAD_BALANCER[4])


@pytest.mark.netns
@FAMILIES
def test_g5_the_service_s_own_address_as_source(rig: Any, make: Any, family: int) -> None:
    """A node that is allowed may have the address on an interface, and then sends from it."""
    address = LOAD_BALANCER[family]
    ip = ["ip"] if family == 4 else ["ip", "-6"]
    rig.node.namespace.run(*ip, "addr", "add", address, "dev", "nowhere", *(["nodad"] if family == 6 else []))
    try:
        backend = rig.start()
        own = LocalNode(name="n", addresses=IPSet((NODE[4],), (NODE[6],)))
        backend.set(guarded(make, OPEN), node=own)
        assert rig.node.reach(address, 80, source=address)
        backend.set(guarded(make, OPEN), node=LocalNode(name="n"))
        assert dropped(rig.node, address, source=address)
        backend.set(guarded(make, OPEN), node=own)  # X6: the Node's addresses may change
        assert rig.node.reach(address, 80, source=address)
        backend.set(guarded(make, CLOSED), node=own)
        assert dropped(rig.node, address, source=address)
    finally:
        rig.node.namespace.run(*ip, "addr", "delete", address, "dev", "nowhere")


@pytest.mark.netns
def test_g6_each_port_of_the_service_and_no_other(rig: Any, make: Any) -> None:
    """Ports share the filter; another service at the same address is not concerned (E6: nor are free ports)."""
    mine = guarded(make, CLOSED)
    other = make("other", vip=8, port=81, load_balancer_ips=BOTH)
    udp = make("udp", vip=9, protocol=Protocol.UDP, load_balancer_ips=BOTH)
    rig.start().set(mine, other, udp)
    assert dropped(rig.client, LOAD_BALANCER[4])
    assert rig.client.reach(LOAD_BALANCER[4], 81)
    assert rig.client.reach(LOAD_BALANCER[4], 80, protocol="udp")
    assert rig.client.reach(VIP[4], 80)


@pytest.mark.netns
def test_ranges_that_change(rig: Any, make: Any) -> None:
    backend = rig.start()
    for ranges, allowed in ((OPEN, True), (CLOSED, False), ((), True), (CLOSED, False), (OPEN, True)):
        before = backend.generation()
        backend.set(guarded(make, ranges))
        assert backend.generation() == before + 1
        assert dropped(rig.client, LOAD_BALANCER[4]) is not allowed
    kernel = backend.backend._kernel
    assert backend.runner.call(lambda: differences(backend.backend._connection, kernel.books)) == []
    backend.set()
    listed = rig.nft("list", "ruleset")
    assert "203.0.113.7" not in listed
    assert "192.0.2.0/24" not in listed


@pytest.mark.netns
@pytest.mark.parametrize("hook_priority", [-99, 0, 199])
def test_wherever_the_hooks_are(rig: Any, make: Any, hook_priority: int) -> None:
    """After conntrack, for which state would a filter before it look at; and before DNAT."""
    rig.start(hook_priority=hook_priority).set(guarded(make, CLOSED))
    assert dropped(rig.client, LOAD_BALANCER[4])
    assert rig.client.reach(VIP[4], 80)


@pytest.mark.netns
def test_a_foreign_change_is_mended(rig: Any, make: Any) -> None:
    """Ranges are part of what the guard compares."""
    first = rig.start()
    first.set(guarded(make, CLOSED))
    first.stop()
    second = rig.start()
    second.set(guarded(make, CLOSED))
    second.checked()
    rig.nft("add", "element", "ip", "kpng", "source_ranges", "{ 203.0.113.7 . tcp . 80 . 192.0.2.0/24 }")
    assert not dropped(rig.client, LOAD_BALANCER[4])
    second.wait(2)
    assert dropped(rig.client, LOAD_BALANCER[4])


def ranges_of(local: Any, node: IPSet = IPSet(), family: Family = Family.IPV4) -> dict[str, list[str]]:  # noqa: B008
    layout = Layout(family, Options())
    found = contents(local, frontends(local.service), Options(), node).get(family, {})
    return {
        name: sorted(show_interval(layout.sets[name].key, key) for key in found.get(name, {}))
        if layout.sets[name].interval
        else [str(len(found.get(name, {})))]
        for name in ("guarded", "source_ranges")
    }


def test_g7_overlaps_become_one(make: Any) -> None:
    local = make(
        load_balancer_ips=IPSet((SECOND,)), source_ranges=("10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "fd00::/8")
    )
    assert ranges_of(local) == {
        "guarded": ["1"],
        "source_ranges": ["203.0.113.8 . tcp . 80 . 10.0.0.0/8", "203.0.113.8 . tcp . 80 . 192.0.2.7"],
    }


def test_g5_every_address_of_the_service_is_let_in(make: Any) -> None:
    local = make(load_balancer_ips=BOTH, source_ranges=("192.0.2.0/24",))
    assert ranges_of(local, IPSet((NODE[4],)))["source_ranges"] == [
        "203.0.113.7 . tcp . 80 . 192.0.2.0/24",
        "203.0.113.7 . tcp . 80 . 203.0.113.7-203.0.113.8",
        "203.0.113.8 . tcp . 80 . 192.0.2.0/24",
        "203.0.113.8 . tcp . 80 . 203.0.113.7-203.0.113.8",
    ]
    assert len(ranges_of(local, IPSet(("198.51.100.1",)))["source_ranges"]) == 2


def test_g6_all_ports(make: Any) -> None:
    ports = (PortMapping(80, available=3), PortMapping(443, name="tls", available=3))
    local = make(load_balancer_ips=IPSet((SECOND,)), source_ranges=("192.0.2.0/24",), ports=ports)
    assert ranges_of(local)["guarded"] == ["2"]
    assert len(ranges_of(local)["source_ranges"]) == 2


def test_an_address_that_is_external_too_is_guarded(make: Any) -> None:
    both = IPSet((SECOND,))
    assert ranges_of(make(load_balancer_ips=both, external_ips=both, source_ranges=CLOSED))["guarded"] == ["1"]
    assert ranges_of(make(external_ips=both, source_ranges=CLOSED))["guarded"] == ["0"]
