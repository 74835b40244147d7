"""Addresses of services that no service has (E4 to E6; X1), with real packets."""

from __future__ import annotations

from typing import Any

import pytest

from kpng.model import ChangeSet, IPSet, LocalNode, Protocol

pytestmark = pytest.mark.netns

VIP = {4: "10.96.0.7", 6: "fd00:96::7"}
FREE = {4: "10.96.0.99", 6: "fd00:96::99"}
ELSEWHERE = {4: "10.99.0.1", 6: "fd00:99::1"}
OUTSIDE = {4: "10.96.7.7", 6: "fd00:96::7:7"}
BOTH = pytest.mark.parametrize("family", [4, 6])
PLACES = pytest.mark.parametrize("where", ["client", "node", "pods"])
CIDRS = ("10.96.0.0/16", "fd00:96::/64")


def node(*cidrs: str) -> LocalNode:
    return LocalNode(name="n", service_cidrs=cidrs)


def passes(rig: Any, address: str, where: str = "client", protocol: str = "udp") -> bool:
    """Whether a packet leaves the node for this address; counted behind us, on its way to nowhere."""
    word = "ip6" if ":" in address else "ip"
    rig.nft(
        "-f",
        "-",
        stdin=f"""table inet counting
        delete table inet counting
        table inet counting {{
            chain c {{ type filter hook postrouting priority 300; {word} daddr {address} counter; }}
        }}""",
    )
    with pytest.raises((OSError, TimeoutError)):
        getattr(rig, where).reach(address, 80, protocol=protocol, timeout=0.1)
    return "packets 0 " not in rig.nft("list", "table", "inet", "counting")


@BOTH
@PLACES
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_e5_what_no_service_has_is_dropped(rig: Any, make: Any, family: int, where: str, protocol: str) -> None:
    backend = rig.start()
    backend.set(make(), node=node(*CIDRS))
    assert not passes(rig, FREE[family], where, protocol)
    assert passes(rig, ELSEWHERE[family], where, protocol)
    assert rig.client.reach(VIP[family], 80)


@BOTH
@PLACES
def test_e4_other_ports_of_a_cluster_ip_are_still_refused(rig: Any, make: Any, family: int, where: str) -> None:
    """The refusal comes before the drop, so that a client learns at once."""
    rig.start().set(make(), node=node(*CIDRS))
    with pytest.raises((ConnectionRefusedError, PermissionError)):
        getattr(rig, where).reach(VIP[family], 81, timeout=3)


@BOTH
def test_e5_frontends_in_the_range_work_whatever_they_are(rig: Any, make: Any, family: int) -> None:
    outside = IPSet((OUTSIDE[4],), (OUTSIDE[6],))
    rig.start().set(make(external_ips=outside, protocol=Protocol.UDP), node=node(*CIDRS))
    for address in (VIP[family], OUTSIDE[family]):
        assert rig.client.reach(address, 80, protocol="udp")
        assert rig.node.reach(address, 80, protocol="udp")


@BOTH
def test_e6_other_ports_of_external_addresses_are_left_alone(rig: Any, make: Any, family: int) -> None:
    external = IPSet((ELSEWHERE[4],), (ELSEWHERE[6],))
    rig.start().set(make(external_ips=external), node=node(*CIDRS))
    assert passes(rig, ELSEWHERE[family])


def test_x1_changes_count_at_once(rig: Any, make: Any) -> None:
    """Each is one transaction, and nothing else is written."""
    backend = rig.start()
    backend.set(make(), node=node())
    steps = [
        (("10.96.0.0/24",), False, True),
        (("10.96.0.0/24", "10.99.0.0/16"), False, False),
        (("10.99.0.0/16",), True, False),
        (("10.96.0.0/16", "10.97.0.0/16", "10.98.0.0/15"), False, False),  # they touch: one interval
        (("10.96.0.0/12",), False, False),
        ((), True, True),
    ]
    for cidrs, free, elsewhere in steps:
        before = backend.generation()
        backend.apply(ChangeSet({}, node=node(*cidrs)))
        assert backend.generation() <= before + 1
        assert passes(rig, FREE[4]) is free, cidrs
        assert passes(rig, ELSEWHERE[4]) is elsewhere, cidrs


def test_the_same_node_again_writes_nothing(rig: Any, make: Any) -> None:
    backend = rig.start()
    backend.set(make(), node=node(*CIDRS))
    before = backend.generation()
    backend.apply(ChangeSet({}, node=node(*CIDRS)))
    backend.apply(ChangeSet({}, node=LocalNode(name="n", service_cidrs=CIDRS, eligible=True)))
    assert backend.generation() == before


def test_a_restart_writes_nothing_and_forgets_what_is_gone(rig: Any, make: Any) -> None:
    first = rig.start()
    first.set(make(), node=node(*CIDRS))
    first.stop()
    second = rig.start()
    before = second.generation()
    second.set(make(), node=node(*CIDRS))
    assert second.generation() == before
    second.stop()
    third = rig.start()
    third.set(make(), node=node("10.97.0.0/16"))
    assert passes(rig, FREE[4])


def test_x2_the_guard_restores_them(rig: Any, make: Any) -> None:
    first = rig.start()
    first.set(make(), node=node(*CIDRS))
    first.stop()
    second = rig.start()
    second.set(make(), node=node(*CIDRS))
    second.checked()
    rig.nft("flush", "set", "ip", "kpng", "service_cidrs")
    assert passes(rig, FREE[4])
    second.wait(2)
    assert not passes(rig, FREE[4])


def test_a_table_made_anew_has_them(rig: Any, make: Any) -> None:
    """After a failure everything is programmed again, the node's part too."""
    backend = rig.start()
    backend.set(make(), node=node(*CIDRS))
    backend.backend._kernel.known = False
    backend.set(make(pods=(1,)))
    assert not passes(rig, FREE[4])
