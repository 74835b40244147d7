"""Where node ports are offered (H1 to H5, H10, E9; X6, X12), with real packets. The node has two networks."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from kpng.backends.nft import NftBackend
from kpng.model import ChangeSet, IPSet, LocalNode, UserError

NODE = {4: "192.0.2.1", 6: "2001:db8:2::1"}
NODE_INSIDE = {4: "10.1.0.254", 6: "fd00:1::fe"}
PODS = {4: [f"10.1.0.{n}" for n in range(1, 6)], 6: [f"fd00:1::{n}" for n in range(1, 6)]}
BOTH = pytest.mark.parametrize("family", [4, 6])
PORT = 30080


def node(*addresses: str) -> LocalNode:
    return LocalNode(name="n", addresses=IPSet.of(addresses))


def offered(rig: Any, address: str, place: str = "client") -> bool:
    """Whether the node port is there; else the kernel says that nobody listens."""
    try:
        pod = getattr(rig, place).reach(address, PORT)[0]
    except ConnectionRefusedError:
        return False
    assert pod in PODS[4] + PODS[6]
    return True


# the option, the node's own addresses, where it is offered: (outside, inside) for IPv4 and for IPv6
ADDRESSES = [
    ((), (), (True, True), (True, True)),
    (("192.0.2.0/24",), (), (True, False), (True, True)),  # H3: of IPv6 nothing is said
    (("192.0.2.0/24,2001:db8:2::/64",), (), (True, False), (True, False)),
    (("192.0.2.0/24", "fd00:1::/64"), (), (True, False), (False, True)),
    (("10.1.0.254/32,192.0.2.1/32",), (), (True, True), (True, True)),
    (("10.1.0.0/16,0.0.0.0/0",), (), (True, True), (True, True)),  # H3: /0 is everything
    (("172.16.0.0/12,::/0",), (), (False, False), (True, True)),
    (("127.0.0.0/8",), (), (False, False), (True, True)),  # H5: refused, and nothing else is named
    (("::1/128,127.0.0.1/32,192.0.2.0/24",), (), (True, False), (False, False)),
    (("primary",), ("192.0.2.1",), (True, False), (False, False)),  # X12: the family that is missing is none
    (("primary",), ("10.1.0.254", "2001:db8:2::1"), (False, True), (True, False)),
    (("primary",), (), (False, False), (False, False)),  # X12
]


@pytest.mark.netns
@pytest.mark.parametrize(("given", "own", "v4", "v6"), ADDRESSES)
def test_h3_where_it_is_offered(
    rig: Any, make: Any, given: tuple[str, ...], own: tuple[str, ...], v4: tuple[bool, ...], v6: tuple[bool, ...]
) -> None:
    rig.start(nodeport_addresses=given).set(make(node_port=PORT), node=node(*own))
    for family, expected in ((4, v4), (6, v6)):
        for place in ("client", "node"):  # C4
            found = tuple(offered(rig, where[family], place) for where in (NODE, NODE_INSIDE))
            assert found == expected, (family, place)


@pytest.mark.netns
@BOTH
@pytest.mark.parametrize("options", [{}, {"nodeport_addresses": ("0.0.0.0/0,::/0",)}])
def test_h4_h5_never_at_loopback(rig: Any, make: Any, family: int, options: dict[str, Any]) -> None:
    rig.start(**options).set(make(node_port=PORT))
    assert not offered(rig, "127.0.0.1" if family == 4 else "::1", "node")


@pytest.mark.netns
@BOTH
def test_h10_elsewhere_others_may_listen(rig: Any, make: Any, family: int) -> None:
    """On an address that is not offered, the port is the node's own; where it is offered, DNAT wins (H9)."""
    rig.start(nodeport_addresses=("10.1.0.0/24,fd00:1::/64",)).set(make(node_port=PORT))
    kind = socket.AF_INET if family == 4 else socket.AF_INET6

    def listen() -> socket.socket:
        return socket.create_server((NODE[family], PORT), family=kind)

    with rig.node.call(listen) as listener:
        connected = rig.client.start(lambda: socket.create_connection((NODE[family], PORT), 2))
        listener.settimeout(2)
        accepted, _ = listener.accept()
        accepted.close()
        connected.result().close()
        assert offered(rig, NODE_INSIDE[family])


@pytest.mark.netns
@pytest.mark.parametrize(("available", "error"), [(0, ConnectionRefusedError), (3, TimeoutError)])
def test_e9_reject_and_drop_only_where_it_is_offered(
    rig: Any, make: Any, available: int, error: type[OSError]
) -> None:
    service = make(pods=(), available=available, node_port=PORT, external_traffic_local=True)
    rig.start(nodeport_addresses=("10.1.0.0/24",)).set(service)
    with rig.node.call(lambda: socket.create_server((NODE[4], PORT))):
        rig.client.call(lambda: socket.create_connection((NODE[4], PORT), 1).close())
    with rig.node.call(lambda: socket.create_server((NODE_INSIDE[4], PORT))), pytest.raises(error):
        rig.client.call(lambda: socket.create_connection((NODE_INSIDE[4], PORT), 0.3).close())


@pytest.mark.netns
@pytest.mark.parametrize("given", [(), ("198.51.100.0/24",)])
def test_x6_an_address_that_is_added_counts_at_once(rig: Any, make: Any, given: tuple[str, ...]) -> None:
    """Not at the next full sync: nobody reads interfaces, the kernel knows which addresses are its own."""
    rig.start(nodeport_addresses=given).set(make(node_port=PORT))
    rig.node.namespace.run("ip", "addr", "add", "198.51.100.1/24", "dev", "nowhere")
    try:
        assert offered(rig, "198.51.100.1")
    finally:
        rig.node.namespace.run("ip", "addr", "delete", "198.51.100.1/24", "dev", "nowhere")
    with pytest.raises((TimeoutError, OSError)):
        rig.client.reach("198.51.100.1", PORT, timeout=0.15)


@pytest.mark.netns
def test_x6_h2_primary_follows_the_node(rig: Any, make: Any) -> None:
    backend = rig.start(nodeport_addresses=("primary",))
    backend.set(make(node_port=PORT), node=node(NODE[4], NODE[6]))
    for own in (NODE_INSIDE, NODE, NODE_INSIDE):
        before = backend.generation()
        backend.set(make(node_port=PORT), node=node(own[4], own[6]))
        assert backend.generation() == before + 1
        for family in (4, 6):
            assert offered(rig, NODE[family]) is (own is NODE)
            assert offered(rig, NODE_INSIDE[family]) is (own is NODE_INSIDE)


@pytest.mark.netns
def test_x12_until_the_address_is_known_there_are_none(
    rig: Any, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Never all: a Go brain tells nothing of the node, and a Node may come late."""
    backend = rig.start(nodeport_addresses=("primary",))
    backend.set(make(node_port=PORT))
    assert not offered(rig, NODE[4])
    assert caplog.text.count("--nodeport-addresses: primary: this node's addresses are not known") == 1
    backend.set(make(node_port=PORT), node=node())
    assert caplog.text.count("are not known") == 1
    backend.set(make(node_port=PORT), node=node(NODE[4]))
    assert offered(rig, NODE[4])
    assert len(backend.backend.problems) == 0


@pytest.mark.netns
def test_a_restart_writes_nothing(rig: Any, make: Any) -> None:
    for given, own in ((("primary",), (NODE[4],)), (("192.0.2.0/24",), ())):
        first = rig.start(nodeport_addresses=given)
        first.set(make(node_port=PORT), node=node(*own))
        first.stop()
        second = rig.start(nodeport_addresses=given)
        before = second.generation()
        second.set(make(node_port=PORT), node=node(*own))
        assert second.generation() == before
        second.stop()


async def test_h5_loopback_is_refused_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    backend = NftBackend(dry_run=True, nodeport_addresses=("127.0.0.0/8,192.0.2.0/24,::1/128",))
    assert [record.getMessage() for record in caplog.records] == [
        "--nodeport-addresses: 127.0.0.0/8 is loopback, where node ports are not offered",
        "--nodeport-addresses: ::1/128 is loopback, where node ports are not offered",
    ]
    await backend.apply(ChangeSet({}, full=True))
    assert len(backend.problems) == 0


REFUSED = [
    (("primary,192.0.2.0/24",), "--nodeport-addresses: primary cannot be combined with CIDRs"),
    (("primary", "primary"), "--nodeport-addresses: primary cannot be combined with CIDRs"),
    (("192.0.2.1",), "--nodeport-addresses: '192.0.2.1' is not a CIDR"),
    (("Primary",), "--nodeport-addresses: 'Primary' is not a CIDR"),
    (("192.0.2.0/24,",), "--nodeport-addresses: '' is not a CIDR"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_h1_what_cannot_be(given: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError) as caught:
        NftBackend(nodeport_addresses=given)
    assert str(caught.value) == message
