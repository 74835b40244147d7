"""externalTrafficPolicy Local seen from inside the cluster (F1 to F5, D5 to D7, E3, E12), with real packets.

What counts as a pod is in the client's namespace: its answers then come by the node, as those of another pod would.
"""

from __future__ import annotations

from typing import Any

import pytest

from kpng.backends.nft.contents import contents
from kpng.backends.nft.frontends import frontends
from kpng.backends.nft.options import Options
from kpng.model import Family, IPSet, Protocol

OUTSIDE = {4: "203.0.113.7", 6: "2001:db8:99::7"}
VIP = {4: "10.96.0.7", 6: "fd00:96::7"}
NODE = {4: "192.0.2.1", 6: "2001:db8:2::1"}
NODE_INSIDE = {4: "10.1.0.254", 6: "fd00:1::fe"}
CLIENT = {4: "192.0.2.10", 6: "2001:db8:2::10"}
PODS = {4: [f"10.1.0.{n}" for n in range(1, 6)], 6: [f"fd00:1::{n}" for n in range(1, 6)]}
BOTH = IPSet((OUTSIDE[4],), (OUTSIDE[6],))

PODS_ARE_CLIENTS = {"cluster_cidr": ("192.0.2.10/32,2001:db8:2::10/128",)}
PODS_ARE_OTHERS = {"cluster_cidr": ("10.1.0.0/16,fd00:1::/64",)}
FAMILIES = pytest.mark.parametrize("family", [4, 6])
KINDS = pytest.mark.parametrize("kind", ["external_ips", "load_balancer_ips", "node_port"])


def local_policy(make: Any, kind: str = "external_ips", *, here: tuple[int, ...] = (1,), **fields: Any) -> Any:
    """A service with endpoints 1 and 2, of which ``here`` are on this node."""
    place = {"node_port": 30080} if kind == "node_port" else {kind: BOTH}
    chosen = {"pods": (1, 2), "local": here, "external": here, "short": (1, 2), **place, **fields}
    return make(external_traffic_local=True, **chosen)


def target(kind: str, family: int) -> tuple[str, int]:
    return (NODE[family], 30080) if kind == "node_port" else (OUTSIDE[family], 80)


def seen(place: Any, address: str, port: int, **options: Any) -> set[tuple[str, str]]:
    """Which endpoints answered, and whom they saw."""
    answers = [place.reach(address, port, **options) for _ in range(24)]
    return {(endpoint, client) for endpoint, _, client in answers}


@pytest.mark.netns
@FAMILIES
@KINDS
def test_f1_f2_d6_pods_use_all_endpoints_and_are_seen(rig: Any, make: Any, family: int, kind: str) -> None:
    rig.start(**PODS_ARE_CLIENTS).set(local_policy(make, kind))
    expected = {(PODS[family][n], CLIENT[family]) for n in (0, 1)}
    assert seen(rig.client, *target(kind, family)) == expected


@pytest.mark.netns
@FAMILIES
@KINDS
@pytest.mark.parametrize("options", [{}, PODS_ARE_CLIENTS, PODS_ARE_OTHERS])
def test_f2_d7_the_node_uses_all_endpoints_and_is_masqueraded(
    rig: Any, make: Any, family: int, kind: str, options: dict[str, Any]
) -> None:
    """With every detector and without one (E12). It sends from an address that the endpoints do not see."""
    rig.start(**options).set(local_policy(make, kind))
    expected = {(PODS[family][n], NODE_INSIDE[family]) for n in (0, 1)}
    assert seen(rig.node, *target(kind, family), source=NODE[family]) == expected


@pytest.mark.netns
@FAMILIES
@KINDS
@pytest.mark.parametrize("options", [{}, PODS_ARE_OTHERS])
def test_d5_others_use_local_endpoints_and_are_seen(
    rig: Any, make: Any, family: int, kind: str, options: dict[str, Any]
) -> None:
    rig.start(**options).set(local_policy(make, kind))
    assert seen(rig.client, *target(kind, family)) == {(PODS[family][0], CLIENT[family])}


@pytest.mark.netns
@FAMILIES
@KINDS
def test_e3_f3_without_local_endpoints_only_the_inside_gets_through(
    rig: Any, make: Any, family: int, kind: str
) -> None:
    backend = rig.start(**PODS_ARE_OTHERS)
    backend.set(local_policy(make, kind, here=()))
    with pytest.raises(TimeoutError):
        rig.client.reach(*target(kind, family), timeout=0.2)
    assert {endpoint for endpoint, _ in seen(rig.node, *target(kind, family))} == set(PODS[family][:2])
    backend.stop()
    rig.start(**PODS_ARE_CLIENTS).set(local_policy(make, kind, here=()))
    assert {endpoint for endpoint, _ in seen(rig.client, *target(kind, family))} == set(PODS[family][:2])


@pytest.mark.netns
def test_x20_without_a_detector_a_pod_is_anybody(rig: Any, make: Any) -> None:
    """As kube-proxy (E12); a detector is what mends it, and the node's own processes need none."""
    rig.start().set(local_policy(make, here=()))
    with pytest.raises(TimeoutError):
        rig.client.reach(OUTSIDE[4], 80, timeout=0.2)
    assert rig.node.reach(OUTSIDE[4], 80)


@pytest.mark.netns
@FAMILIES
def test_e12_no_endpoint_anywhere_is_a_refusal_for_all(rig: Any, make: Any, family: int) -> None:
    rig.start(**PODS_ARE_CLIENTS).set(make(pods=(), external_ips=BOTH, external_traffic_local=True))
    for place in (rig.client, rig.node):
        with pytest.raises((ConnectionRefusedError, PermissionError)):
            place.reach(OUTSIDE[family], 80, timeout=3)


@pytest.mark.netns
@FAMILIES
def test_f5_cluster_policy_has_no_short_circuit(rig: Any, make: Any, family: int) -> None:
    """The pod's connection is captured here, and masqueraded as anybody's."""
    rig.start(**PODS_ARE_CLIENTS).set(make(pods=(1, 2), local=(1,), external_ips=BOTH))
    assert seen(rig.client, OUTSIDE[family], 80) == {(PODS[family][n], NODE_INSIDE[family]) for n in (0, 1)}


@pytest.mark.netns
def test_d6_udp(rig: Any, make: Any) -> None:
    rig.start(**PODS_ARE_CLIENTS).set(local_policy(make, protocol=Protocol.UDP))
    expected = {(PODS[4][n], CLIENT[4]) for n in (0, 1)}
    assert seen(rig.client, OUTSIDE[4], 80, protocol="udp") == expected


@pytest.mark.netns
def test_d7_a_process_with_an_address_of_the_pods_is_a_pod(rig: Any, make: Any) -> None:
    """The node's own address on the pods' network is within the CIDR; its answers come back here anyway."""
    rig.start(**PODS_ARE_OTHERS).set(local_policy(make))
    assert seen(rig.node, OUTSIDE[4], 80, source=NODE_INSIDE[4]) == {(pod, NODE_INSIDE[4]) for pod in PODS[4][:2]}


@pytest.mark.netns
def test_c2_a_virtual_ip_comes_before_a_node_port_of_the_same_number(rig: Any, make: Any) -> None:
    """Also where only the node port has a short-circuit: an external IP that is the node's own address."""
    at_node = make("ip", vip=8, pods=(3,), port=30080, external_ips=IPSet((NODE[4],)))
    rig.start(**PODS_ARE_CLIENTS).set(local_policy(make, "node_port"), at_node)
    for place in (rig.client, rig.node):
        assert {endpoint for endpoint, _ in seen(place, NODE[4], 30080)} == {PODS[4][2]}
    assert {endpoint for endpoint, _ in seen(rig.client, NODE_INSIDE[4], 30080)} == set(PODS[4][:2])


@pytest.mark.netns
def test_i1_affinity_is_shared_with_the_cluster_ip(rig: Any, make: Any) -> None:
    """Both use the Cluster policy's endpoints, so a pod that uses both finds the same one."""
    service = local_policy(make, session_affinity_seconds=60, node_port=30080)
    rig.start(**PODS_ARE_CLIENTS).set(service)
    for source in [f"192.0.2.{n}" for n in range(10, 11)]:
        first = rig.client.reach(VIP[4], 80, source=source)[0]
        for address, port in ((OUTSIDE[4], 80), (NODE[4], 30080), (VIP[4], 80)) * 4:
            assert rig.client.reach(address, port, source=source)[0] == first


@pytest.mark.netns
@FAMILIES
def test_i1_affinity_is_shared_by_both_policies(rig: Any, make: Any, family: int) -> None:
    """A client from outside uses local endpoints by the external IP, and all by the cluster IP: it keeps the one it
    had first, whichever way, if both have it."""
    backend = rig.start()
    backend.set(local_policy(make, here=(1, 2), pods=(1, 2, 3), session_affinity_seconds=60))
    for first, second in ((OUTSIDE, VIP), (VIP, OUTSIDE)) * 4:
        chosen = ""
        while chosen not in PODS[family][:2]:  # by the cluster IP it may be the one elsewhere
            rig.flush_clients(backend)
            chosen = rig.client.reach(first[family], 80)[0]
        assert set(rig.client.count(6, second[family], 80)) == {chosen}
        assert set(rig.client.count(6, first[family], 80)) == {chosen}


@pytest.mark.netns
def test_i5_affinity_to_an_endpoint_elsewhere_is_no_affinity_for_the_local_policy(rig: Any, make: Any) -> None:
    """The client is tied to the endpoint elsewhere by the cluster IP, uses the local one from outside, and
    is still tied afterwards."""
    backend = rig.start()
    backend.set(local_policy(make, session_affinity_seconds=60, internal=(2,)))
    assert rig.client.reach(VIP[4], 80)[0] == PODS[4][1]
    backend.set(local_policy(make, session_affinity_seconds=60))
    for _ in range(6):
        assert rig.client.reach(OUTSIDE[4], 80)[0] == PODS[4][0]
        assert rig.client.reach(VIP[4], 80)[0] == PODS[4][1]


@pytest.mark.netns
def test_a_policy_that_changes(rig: Any, make: Any) -> None:
    """Elements follow; nothing of the short-circuit stays."""
    backend = rig.start(**PODS_ARE_CLIENTS)
    for _ in range(2):
        backend.set(local_policy(make, here=()))
        assert rig.client.reach(OUTSIDE[4], 80)[2] == CLIENT[4]
        backend.set(make(pods=(1, 2), external_ips=BOTH))
        assert rig.client.reach(OUTSIDE[4], 80)[2] == NODE_INSIDE[4]
        assert "203.0.113.7" not in rig.nft("list", "map", "ip", "kpng", "inside_services")


@pytest.mark.netns
def test_short_circuits_survive_a_restart_unwritten(rig: Any, make: Any) -> None:
    first = rig.start(**PODS_ARE_CLIENTS)
    first.set(local_policy(make, node_port=30080))
    first.stop()
    second = rig.start(**PODS_ARE_CLIENTS)
    before = second.generation()
    second.set(local_policy(make, node_port=30080))
    assert second.generation() == before
    second.set(local_policy(make, node_port=30080, here=(1, 2)))
    second.checked()
    assert rig.client.reach(OUTSIDE[4], 80)


def names(local: Any) -> set[str]:
    found = contents(local, frontends(local.service), Options())
    return {name for name, pairs in found[Family.IPV4].items() if pairs and name.startswith("inside_")}


ELEMENTS = [
    ("external_ips", {}, {"inside_services", "inside_endpoints", "inside_masqueraded"}),
    ("node_port", {}, {"inside_nodeport_services", "inside_nodeport_endpoints", "inside_nodeport_masqueraded"}),
    ("external_ips", {"short": ()}, set()),
    ("external_ips", {"external_traffic_local": False}, set()),
]


@pytest.mark.parametrize(("kind", "fields", "expected"), ELEMENTS)
def test_elements(make: Any, kind: str, fields: dict[str, Any], expected: set[str]) -> None:
    """Only services with externalTrafficPolicy Local pay for it, and a brain that tells no such scope costs
    nothing but the short-circuit."""
    place = {"node_port": 30080} if kind == "node_port" else {kind: BOTH}
    chosen = {"external_traffic_local": True, "short": (1, 2), **place, **fields}
    assert names(make(pods=(1, 2), external=(1,), **chosen)) == expected
