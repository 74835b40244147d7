"""Which service a packet is for (C1, C2, H), who may use an address (G), and what is for nobody (E4 to E6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from kpng.explain import Explanation, FrontendKind, NodeState, Settings, Verdict
from kpng.explain.frontends import find_frontend, offers_node_ports
from kpng.explain.packet import parse_packet
from kpng.model import PRIMARY, IPSet, LocalNode, Service
from kpng.testing import endpoint_info, service

Make = Callable[..., NodeState]
Ask = Callable[..., Explanation]

POD, NODE, OUTSIDE = "10.1.2.9", "192.0.2.10", "203.0.113.5"
ENDPOINT = endpoint_info("10.1.2.11", "fd00:1:2::11", port="8080 dns=5353/UDP", node="node-b")


def web(**fields: Any) -> Service:
    given: dict[str, Any] = {
        "ports": "80:8080@30080 dns=53:5353/UDP",
        "type": "LoadBalancer",
        "load_balancer_ips": IPSet.of(["198.18.0.1", "fd00:aa::1"]),
        "external_ips": IPSet.of(["198.18.1.1"]),
    }
    return service("demo/web", "10.96.0.1", "fd00:96::1", **(given | fields))


@pytest.fixture
def state(make_state: Make) -> NodeState:
    return make_state((web(), [ENDPOINT]))


FRONTENDS = [
    ("10.96.0.1:80", "tcp", FrontendKind.CLUSTER_IP),
    ("[fd00:96::1]:80", "tcp", FrontendKind.CLUSTER_IP),
    ("10.96.0.1:53", "udp", FrontendKind.CLUSTER_IP),
    ("198.18.0.1:80", "tcp", FrontendKind.LOAD_BALANCER_IP),
    ("[fd00:aa::1]:80", "tcp", FrontendKind.LOAD_BALANCER_IP),
    ("198.18.1.1:53", "udp", FrontendKind.EXTERNAL_IP),
    ("192.0.2.10:30080", "tcp", FrontendKind.NODE_PORT),
    ("[2001:db8::a]:30080", "tcp", FrontendKind.NODE_PORT),
    ("198.51.100.10:30080", "tcp", FrontendKind.NODE_PORT),
    ("10.1.1.1:30080", "tcp", FrontendKind.NODE_PORT),
    # C6: neither another protocol nor another port
    ("10.96.0.1:80", "udp", None),
    ("10.96.0.1:80", "sctp", None),
    ("10.96.0.1:53", "tcp", None),
    ("10.96.0.1", "icmp", None),
    ("10.96.0.1:30080", "tcp", None),
    ("192.0.2.10:80", "tcp", None),
    ("192.0.2.10:30080", "udp", None),
    ("203.0.113.9:30080", "tcp", None),
    ("127.0.0.1:30080", "tcp", None),
    ("[::1]:30080", "tcp", None),
]


@pytest.mark.parametrize(("target", "protocol", "kind"), FRONTENDS)
def test_c1_c6_a_frontend_is_matched_exactly(
    target: str, protocol: str, kind: FrontendKind | None, state: NodeState
) -> None:
    source = "fd00:1::9" if "[" in target else POD
    found = find_frontend(parse_packet(source, target, protocol), state)
    assert (found.kind if found else None) is kind


def test_c2_an_address_of_a_service_comes_before_a_node_port(make_state: Make, ask: Ask) -> None:
    address = service("demo/address", "10.96.0.2", ports="30080", external_ips=IPSet.of([NODE]))
    state = make_state((web(), [ENDPOINT]), (address, []))
    found = ask(state, OUTSIDE, f"{NODE}:30080")
    assert found.frontend is not None
    assert (found.frontend.kind, str(found.frontend.service.key)) == (FrontendKind.EXTERNAL_IP, "demo/address")
    assert found.verdict is Verdict.REJECT


@pytest.mark.parametrize(
    ("thief", "owner"),
    [
        ({"external_ips": IPSet.of(["10.96.0.1"])}, "demo/web"),
        ({"load_balancer_ips": IPSet.of(["10.96.0.1"])}, "demo/web"),
        ({"load_balancer_ips": IPSet.of(["198.18.1.1"])}, "aaa/thief"),
        ({"external_ips": IPSet.of(["198.18.0.1"])}, "demo/web"),
        ({"external_ips": IPSet.of(["198.18.1.1"])}, "aaa/thief"),
    ],
)
def test_who_owns_what_two_services_claim(thief: dict[str, Any], owner: str, make_state: Make, ask: Ask) -> None:
    """Cluster IPs cannot be taken away (CVE-2020-8554); for the rest, it never depends on who came first."""
    claimed = next(iter(thief.values())).v4[0]
    other = service("aaa/thief", "10.96.9.9", ports="80", **thief)
    for order in (((web(), [ENDPOINT]), (other, [])), ((other, []), (web(), [ENDPOINT]))):
        found = ask(make_state(*order), POD, f"{claimed}:80")
        assert found.frontend is not None
        assert str(found.frontend.service.key) == owner
        assert any("also claimed by" in note for note in found.notes)


def test_a6_a8_what_is_no_service_here(make_state: Make, ask: Ask) -> None:
    headless = replace(web(), headless=True)
    only_ipv6 = replace(web(), cluster_ips=IPSet.of(["fd00:96::1"]))
    for each in (headless, only_ipv6):
        for target in ("10.96.0.1:80", "198.18.0.1:80", "192.0.2.10:30080"):
            assert ask(make_state((each, [ENDPOINT])), OUTSIDE, target).frontend is None
    assert ask(make_state((only_ipv6, [ENDPOINT])), "fd00::9", "[fd00:aa::1]:80").verdict is Verdict.FORWARD


OFFERED = [
    # --nodeport-addresses, and at which of these addresses there are node ports
    ((), ["192.0.2.10", "198.51.100.10", "10.1.1.1", "2001:db8::a"]),
    (PRIMARY, ["192.0.2.10", "2001:db8::a"]),
    (("192.0.2.0/24",), ["192.0.2.10", "2001:db8::a"]),  # H3: of the other family alone: all of this one
    (("192.0.2.0/24", "198.51.100.0/24", "fd00::/8"), ["192.0.2.10", "198.51.100.10"]),
    (("192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32"), ["192.0.2.10", "198.51.100.10", "10.1.1.1", "2001:db8::a"]),
    (("127.0.0.0/8", "::1/128"), []),  # H5
    (("203.0.113.0/24", "fd00::/8"), []),  # not addresses of this node
]


@pytest.mark.parametrize(("given", "wanted"), OFFERED)
def test_h1_to_h5_where_node_ports_are_offered(given: tuple[str, ...], wanted: list[str], make_state: Make) -> None:
    state = make_state(settings=Settings(node_port_addresses=given))
    asked = [*OFFERED[0][1], "127.0.0.1", "::1", "203.0.113.1", "fd00::1"]
    assert [address for address in asked if offers_node_ports(address, state)] == wanted


def test_h2_primary_addresses_that_are_not_known_are_none(make_state: Make) -> None:
    """X12: kube-proxy would offer node ports everywhere."""
    state = make_state(node=LocalNode(name="node-a"), settings=Settings(node_port_addresses=PRIMARY))
    assert not offers_node_ports("198.51.100.10", state)


RANGES = [
    # loadBalancerSourceRanges, source, may it use the load-balancer IP
    ((), OUTSIDE, True),
    (("203.0.113.0/24",), OUTSIDE, True),
    (("203.0.114.0/24",), OUTSIDE, False),
    (("203.0.114.0/24", "203.0.113.5/32"), OUTSIDE, True),
    (("203.0.114.0/24", "0.0.0.0/0"), OUTSIDE, True),
    (("203.0.113.0/24",), POD, False),  # G4
    (("203.0.113.0/24",), NODE, False),
    (("fd00::/8",), OUTSIDE, False),  # X11: kube-proxy lets in everybody
    (("203.0.113.0/24",), "198.18.0.1", False),
    (("192.0.2.0/24",), "198.18.0.1", True),  # G5: the node is allowed, and may send from the VIP
    (("192.0.2.0/24",), "198.18.1.1", False),
]


@pytest.mark.parametrize(("ranges", "source", "allowed"), RANGES)
def test_g_source_ranges(ranges: tuple[str, ...], source: str, allowed: bool, make_state: Make, ask: Ask) -> None:
    state = make_state((web(source_ranges=ranges), [ENDPOINT]))
    found = ask(state, source, "198.18.0.1:80")
    assert found.verdict is (Verdict.FORWARD if allowed else Verdict.DROP)
    assert allowed or "loadBalancerSourceRanges" in found.reason
    for open_to_all in ("10.96.0.1:80", "198.18.1.1:80", "192.0.2.10:30080"):  # G2
        assert ask(state, source, open_to_all).verdict is Verdict.FORWARD


def test_e7_a_refused_source_is_dropped_also_where_there_are_no_endpoints(make_state: Make, ask: Ask) -> None:
    state = make_state((web(source_ranges=("192.0.2.0/24",)), []))
    assert ask(state, OUTSIDE, "198.18.0.1:80").verdict is Verdict.DROP
    assert ask(state, NODE, "198.18.0.1:80").verdict is Verdict.REJECT


UNCLAIMED = [
    (POD, "10.96.0.1:81", "tcp", "reject", "cluster IP of Service demo/web, which has no port 81/TCP"),
    (NODE, "10.96.0.1:80", "udp", "reject", "cluster IP of Service demo/web, which has no port 80/UDP"),
    (POD, "10.96.0.1", "icmp", "reject", "cluster IP of Service demo/web, which answers only at its ports"),
    (POD, "10.96.9.9:80", "tcp", "drop", "in the service CIDR 10.96.0.0/16, and no cluster IP"),
    (POD, "10.96.9.9", "icmp", "drop", "in the service CIDR 10.96.0.0/16, and no cluster IP"),
    ("fd00::9", "[fd00:96::9]:80", "tcp", "drop", "in the service CIDR fd00:96::/112, and no cluster IP"),
    (OUTSIDE, "198.18.0.1:81", "tcp", "none", "load-balancer IP of Service demo/web, which has no port 81/TCP"),
    (OUTSIDE, "198.18.1.1:81", "tcp", "none", "external IP of Service demo/web, which has no port 81/TCP"),
    (OUTSIDE, "192.0.2.10:22", "tcp", "none", "this node's own address, and no Service has this node port"),
    (POD, "203.0.113.9:443", "tcp", "none", "no Service has this address"),
    (POD, "203.0.113.9", "icmp", "none", "no Service has this address"),
    (NODE, "127.0.0.1:30080", "tcp", "none", "not offered at 127.0.0.1: it is loopback"),
    (OUTSIDE, "192.0.2.99:30080", "tcp", "none", "it is the node port of demo/web, but not this node's address"),
]


@pytest.mark.parametrize(("source", "target", "protocol", "verdict", "reason"), UNCLAIMED)
def test_e4_to_e6_what_is_for_no_frontend(
    source: str, target: str, protocol: str, verdict: str, reason: str, state: NodeState, ask: Ask
) -> None:
    found = ask(state, source, target, protocol)
    assert found.verdict.value == verdict
    assert reason in found.reason
    assert found.left_out is None


def test_e5_without_service_cidrs_nothing_is_dropped(make_state: Make, ask: Ask) -> None:
    state = make_state((web(), [ENDPOINT]), node=LocalNode(name="node-a"))
    assert ask(state, POD, "10.96.9.9:80").verdict is Verdict.NONE


def test_e8_what_is_for_the_node_itself_is_not_checked_against_service_cidrs(make_state: Make, ask: Ask) -> None:
    state = make_state(addresses=frozenset({"10.96.0.254"}))
    assert ask(state, OUTSIDE, "10.96.0.254:22").verdict is Verdict.NONE
    assert ask(state, "10.96.0.254", "10.96.0.254:22").verdict is Verdict.DROP, "what begins here is"


def test_h10_an_address_that_is_left_out_is_named(make_state: Make, ask: Ask) -> None:
    state = make_state((web(), [ENDPOINT]), settings=Settings(node_port_addresses=PRIMARY))
    found = ask(state, OUTSIDE, "198.51.100.10:30080")
    assert found.verdict is Verdict.NONE
    assert "not offered at 198.51.100.10: it is not among --nodeport-addresses" in found.reason


@pytest.mark.parametrize(
    ("target", "listened"), [("127.0.0.1:30080", True), ("127.0.0.2:30080", False), ("[::1]:30080", True)]
)
def test_kep_6032_node_ports_at_localhost(target: str, listened: bool, make_state: Make, ask: Ask) -> None:
    state = make_state((web(), [ENDPOINT]), settings=Settings(localhost_node_ports=True))
    found = ask(state, "::1" if "[" in target else "127.0.0.1", target)
    assert found.verdict is Verdict.NONE, "no rule takes it"
    assert ("the backend itself listens" in found.reason) is listened


@pytest.mark.parametrize("ports", ["80:8080", "80:http"])
def test_a20_ports_are_matched_by_name(ports: str, make_state: Make, ask: Ask) -> None:
    """Named target ports may be other numbers at each endpoint (C7)."""
    first, second = endpoint_info("10.1.1.1", port=8080), endpoint_info("10.1.1.2", port=9090)
    other = endpoint_info("10.1.1.3", port="metrics=80")
    found = ask(make_state((web(ports=ports), [second, first, other])), POD, "10.96.0.1:80")
    assert [str(target) for target in found.targets] == ["10.1.1.1:8080", "10.1.1.2:9090"]
