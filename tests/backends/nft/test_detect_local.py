"""Which packets are of pods (D10, D11): four ways to tell, each with real packets; options that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kpng.backends.nft import NftBackend
from kpng.backends.nft.options import parse_options
from kpng.model import ChangeSet, DetectLocalMode, IPSet, LocalNode, LocalService, UserError

VIP = {4: "10.96.0.7", 6: "fd00:96::7"}
OUTSIDE = {4: "203.0.113.7", 6: "2001:db8:99::7"}
BOTH = IPSet((OUTSIDE[4],), (OUTSIDE[6],))
NODE = {4: "192.0.2.1", 6: "2001:db8:2::1"}
NODE_INSIDE = {4: "10.1.0.254", 6: "fd00:1::fe"}
CLIENT = {4: "192.0.2.10", 6: "2001:db8:2::10"}
FAMILIES = pytest.mark.parametrize("family", [4, 6])
Make = Callable[..., LocalService]

CLIENTS_NETWORKS = ("192.0.2.0/24", "2001:db8:2::/64")
OTHER_NETWORKS = ("192.168.0.0/24", "fd00:5::/64")


def node(*pod_cidrs: str) -> LocalNode:
    return LocalNode(name="n", pod_cidrs=pod_cidrs)


def is_pod(rig: Any, family: int) -> bool:
    """Whether the client counts as a pod: its connections to cluster IPs are then not masqueraded."""
    source = rig.client.reach(VIP[family], 80)[2]
    assert source in {CLIENT[family], NODE_INSIDE[family]}
    return bool(source == CLIENT[family])


# options, the node's pod CIDRs, whether the client counts as a pod. It comes in by the node's device "out".
MODES: list[tuple[dict[str, Any], tuple[str, ...], bool]] = [
    ({"detect_local_mode": "ClusterCIDR", "cluster_cidr": (",".join(CLIENTS_NETWORKS),)}, (), True),
    ({"detect_local_mode": "ClusterCIDR", "cluster_cidr": OTHER_NETWORKS}, (), False),
    ({"detect_local_mode": "NodeCIDR"}, CLIENTS_NETWORKS, True),
    ({"detect_local_mode": "NodeCIDR"}, OTHER_NETWORKS, False),
    ({"detect_local_mode": "BridgeInterface", "pod_bridge_interface": "out"}, (), True),
    ({"detect_local_mode": "BridgeInterface", "pod_bridge_interface": "in"}, (), False),
    ({"detect_local_mode": "BridgeInterface", "pod_bridge_interface": "ou"}, (), False),
    ({"detect_local_mode": "InterfaceNamePrefix", "pod_interface_name_prefix": "ou"}, (), True),
    ({"detect_local_mode": "InterfaceNamePrefix", "pod_interface_name_prefix": "out"}, (), True),
    ({"detect_local_mode": "InterfaceNamePrefix", "pod_interface_name_prefix": "i"}, (), False),
    ({"detect_local_mode": "InterfaceNamePrefix", "pod_interface_name_prefix": "outs"}, (), False),
]


@pytest.mark.netns
@FAMILIES
@pytest.mark.parametrize(("options", "pod_cidrs", "pod"), MODES)
def test_d10_cluster_ips(
    rig: Any, make: Make, family: int, options: dict[str, Any], pod_cidrs: tuple[str, ...], pod: bool
) -> None:
    """D2: who is no pod is masqueraded, and the node itself never is one (D11)."""
    rig.start(**options).set(make(), node=node(*pod_cidrs))
    assert is_pod(rig, family) is pod
    on_the_node = rig.node.reach(VIP[family], 80, source=NODE[family])[2]
    if pod and options["detect_local_mode"].endswith("CIDR"):  # its address is one of the pods' here
        assert on_the_node == NODE[family]
    else:
        assert on_the_node == NODE_INSIDE[family]


@pytest.mark.netns
@FAMILIES
@pytest.mark.parametrize(("options", "pod_cidrs", "pod"), MODES)
def test_d10_short_circuit(
    rig: Any, make: Make, family: int, options: dict[str, Any], pod_cidrs: tuple[str, ...], pod: bool
) -> None:
    """F4: the same detector decides who is inside."""
    service = make(pods=(1,), internal=(), external=(), short=(1,), external_traffic_local=True, external_ips=BOTH)
    rig.start(**options).set(service, node=node(*pod_cidrs))
    if pod:
        assert rig.client.reach(OUTSIDE[family], 80)[2] == CLIENT[family]
    else:
        with pytest.raises(TimeoutError):
            rig.client.reach(OUTSIDE[family], 80, timeout=0.15)


NOT_KNOWN = [
    ({}, ()),
    ({"cluster_cidr": ("fd00::/8",)}, ()),
    ({"detect_local_mode": "NodeCIDR"}, ()),
    ({"detect_local_mode": "NodeCIDR"}, ("fd00:1::/64",)),
]


@pytest.mark.netns
@pytest.mark.parametrize(("options", "pod_cidrs"), NOT_KNOWN)
def test_d10_a_family_without_a_cidr_has_no_detector(
    rig: Any, make: Make, options: dict[str, Any], pod_cidrs: tuple[str, ...]
) -> None:
    """Nobody is masqueraded then, the node neither."""
    rig.start(**options).set(make(), node=node(*pod_cidrs))
    assert rig.client.reach(VIP[4], 80)[2] == CLIENT[4]
    assert rig.node.reach(VIP[4], 80, source=NODE[4])[2] == NODE[4]


@pytest.mark.netns
@FAMILIES
@pytest.mark.parametrize("options", [options for options, _, _ in MODES])
def test_d8_hairpin_comes_first(rig: Any, make: Make, family: int, options: dict[str, Any]) -> None:
    """A pod that reaches itself is masqueraded, whatever it counts as."""
    pod = {4: "10.1.0.1", 6: "fd00:1::1"}[family]
    rig.start(**options).set(make(pods=(1,), local=(1,)), node=node("10.1.0.0/24", "fd00:1::/64"))
    assert rig.pods.reach(VIP[family], 80, source=pod) == (pod, 8080, NODE_INSIDE[family])


@pytest.mark.netns
def test_d10_pod_cidrs_that_change_count_at_once(rig: Any, make: Make) -> None:
    """kube-proxy exits. Here they are elements, and the rules stay as they are."""
    backend = rig.start(detect_local_mode="NodeCIDR")
    backend.set(make())
    skeleton = backend.backend._kernel.books.tables
    before = {family: books.skeleton for family, books in skeleton.items()}
    assert is_pod(rig, 4)  # nothing known: as without a detector
    for cidrs, expected in ((OTHER_NETWORKS, False), (CLIENTS_NETWORKS, True), (OTHER_NETWORKS, False), ((), True)):
        generation = backend.generation()
        backend.set(make(), node=node(*cidrs))
        assert backend.generation() == generation + 1
        assert (is_pod(rig, 4), is_pod(rig, 6)) == (expected, expected)
    assert before == {family: books.skeleton for family, books in backend.backend._kernel.books.tables.items()}


async def test_d10_unknown_pod_cidrs_are_named(caplog: pytest.LogCaptureFixture) -> None:
    backend = NftBackend(dry_run=True, detect_local_mode="NodeCIDR")
    await backend.apply(ChangeSet({}, full=True))
    assert "--detect-local-mode: NodeCIDR: this node's pod CIDRs are not known" in caplog.text
    assert len(backend.problems) == 1
    await backend.apply(ChangeSet({}, node=node("10.1.0.0/24")))
    assert len(backend.problems) == 0


@pytest.mark.netns
@pytest.mark.parametrize("mode", ["BridgeInterface", "InterfaceNamePrefix"])
def test_d1_no_mark_is_used_or_touched(rig: Any, make: Make, mode: str) -> None:
    """Whatever others mark packets with reaches them: kube-proxy needs a bit of it, we do not."""
    option = "pod_bridge_interface" if mode == "BridgeInterface" else "pod_interface_name_prefix"
    rig.nft(
        "-f",
        "-",
        stdin="""table ip theirs {
            chain first { type filter hook prerouting priority -200; meta mark set 0xffffffff; }
            chain last {
                type filter hook postrouting priority 300
                oifname "in" meta mark 0xffffffff counter accept
                oifname "in" counter drop
            }
        }""",
    )
    rig.start(detect_local_mode=mode, **{option: "out"}).set(make())
    assert is_pod(rig, 4)


@pytest.mark.netns
def test_masquerade_all_comes_before_every_detector(rig: Any, make: Make) -> None:
    for options, pod_cidrs, _ in MODES:
        backend = rig.start(masquerade_all=True, **options)
        backend.set(make(), node=node(*pod_cidrs))
        assert not is_pod(rig, 4), options
        backend.stop()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"detect_local_mode": "Nonsense"}, "--detect-local-mode: 'Nonsense' is none of ClusterCIDR, NodeCIDR, "),
    ({"detect_local_mode": "clustercidr"}, "--detect-local-mode: 'clustercidr' is none of"),
    ({"detect_local_mode": "BridgeInterface"}, "--detect-local-mode BridgeInterface needs --pod-bridge-interface"),
    (
        {"detect_local_mode": "InterfaceNamePrefix", "pod_bridge_interface": "cni0"},
        "--detect-local-mode InterfaceNamePrefix needs --pod-interface-name-prefix",
    ),
    (
        {"detect_local_mode": "BridgeInterface", "pod_bridge_interface": "sixteen-letters-"},
        "--pod-bridge-interface",
    ),
    ({"detect_local_mode": "BridgeInterface", "pod_bridge_interface": "a b"}, "cannot be the name of an interface"),
    (
        {"detect_local_mode": "InterfaceNamePrefix", "pod_interface_name_prefix": "veth*"},
        "--pod-interface-name-prefix: 'veth*' cannot be the name of an interface",
    ),
    ({"cluster_cidr": ("10.0.0.0/8,10.1.0.0/16",)}, "--cluster-cidr: at most one CIDR of each family"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        NftBackend(**options)
    assert message in str(caught.value)
    assert str(caught.value).startswith("--")


def test_what_a_mode_does_not_need_is_named_and_not_looked_at(caplog: pytest.LogCaptureFixture) -> None:
    """As in kube-proxy's configuration, where it may be left over."""
    found = parse_options(pod_bridge_interface="a b", pod_interface_name_prefix="x", cluster_cidr=("10.0.0.0/8",))
    assert found.detect_local_mode is DetectLocalMode.CLUSTER_CIDR
    assert found.pod_interface == ""
    assert caplog.messages == [
        f"{option} is not heeded: --detect-local-mode is ClusterCIDR"
        for option in ("--pod-bridge-interface", "--pod-interface-name-prefix")
    ]


@pytest.mark.parametrize("mode", ["NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"])
def test_a_cluster_cidr_that_counts_for_nothing_is_named(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    needed = {
        "BridgeInterface": {"pod_bridge_interface": "cni0"},
        "InterfaceNamePrefix": {"pod_interface_name_prefix": "v"},
    }
    parse_options(detect_local_mode=mode, cluster_cidr=("10.0.0.0/8",), **needed.get(mode, {}))
    assert caplog.messages == [f"--cluster-cidr is not heeded: --detect-local-mode is {mode}"]
