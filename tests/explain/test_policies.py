"""The table of policies (E12), masquerading (D) and the short-circuit (F), each cell by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from kpng.explain import Explanation, NodeState, Settings, Verdict
from kpng.model import DetectLocalMode, EndpointInfo, IPSet, LocalNode, Service
from kpng.testing import endpoint_info, local_service, service

Make = Callable[..., NodeState]
Ask = Callable[..., Explanation]

POD, NODE, OUTSIDE, BRIDGE = "10.1.2.9", "192.0.2.10", "203.0.113.5", "10.1.1.1"
CLUSTER_IP, BALANCER, EXTERNAL, NODE_PORT = "10.96.0.1:80", "198.18.0.1:80", "198.18.1.1:80", "192.0.2.10:30080"
HERE, ELSEWHERE = "10.1.1.11:8080", "10.1.2.11:8080"
REJECT, DROP = "reject", "drop"


def web(**fields: Any) -> Service:
    """Reached by everything there is."""
    return service(
        "demo/web",
        "10.96.0.1",
        ports="80:8080@30080",
        type="LoadBalancer",
        load_balancer_ips=IPSet.of(["198.18.0.1"]),
        external_ips=IPSet.of(["198.18.1.1"]),
        **fields,
    )


def here(**fields: Any) -> EndpointInfo:
    return endpoint_info("10.1.1.11", node="node-a", **fields)


def elsewhere(**fields: Any) -> EndpointInfo:
    return endpoint_info("10.1.2.11", node="node-b", **fields)


def summary(found: Explanation) -> str:
    """The verdict, or ``endpoint endpoint``, each with a * where it is masqueraded."""
    if found.verdict is not Verdict.FORWARD:
        assert not found.targets
        return found.verdict.value
    return " ".join(f"{target}{'*' * target.masquerade}" for target in found.targets)


BOTH, BOTH_MASQUERADED = f"{HERE} {ELSEWHERE}", f"{HERE}* {ELSEWHERE}*"

E12 = [
    # policy, source, target: with endpoints here and elsewhere, with endpoints elsewhere only, with none
    ("iTP Cluster", POD, CLUSTER_IP, BOTH, ELSEWHERE, REJECT),
    ("iTP Cluster", NODE, CLUSTER_IP, BOTH_MASQUERADED, f"{ELSEWHERE}*", REJECT),
    ("iTP Cluster", OUTSIDE, CLUSTER_IP, BOTH_MASQUERADED, f"{ELSEWHERE}*", REJECT),
    ("iTP Local", POD, CLUSTER_IP, HERE, DROP, REJECT),
    ("iTP Local", NODE, CLUSTER_IP, f"{HERE}*", DROP, REJECT),
    ("iTP Local", OUTSIDE, CLUSTER_IP, f"{HERE}*", DROP, REJECT),
    *(
        ("eTP Cluster", source, target, BOTH_MASQUERADED, f"{ELSEWHERE}*", REJECT)
        for source in (POD, NODE, OUTSIDE)
        for target in (BALANCER, EXTERNAL, NODE_PORT)
    ),
    *(("eTP Local", OUTSIDE, target, HERE, DROP, REJECT) for target in (BALANCER, EXTERNAL, NODE_PORT)),
    *(("eTP Local", POD, target, BOTH, ELSEWHERE, REJECT) for target in (BALANCER, EXTERNAL, NODE_PORT)),
    *(
        ("eTP Local", NODE, target, BOTH_MASQUERADED, f"{ELSEWHERE}*", REJECT)
        for target in (BALANCER, EXTERNAL, NODE_PORT)
    ),
    ("eTP Local", POD, CLUSTER_IP, BOTH, ELSEWHERE, REJECT),
    ("iTP Local", OUTSIDE, BALANCER, BOTH_MASQUERADED, f"{ELSEWHERE}*", REJECT),
]
POLICIES: dict[str, dict[str, bool]] = {
    "iTP Cluster": {},
    "eTP Cluster": {},
    "iTP Local": {"internal_traffic_local": True},
    "eTP Local": {"external_traffic_local": True},
}


@pytest.mark.parametrize("row", E12, ids=lambda row: " ".join(row[:3]))
def test_e12_verdicts_by_policy(row: tuple[str, ...], make_state: Make, ask: Ask) -> None:
    policy, source, target, *wanted = row
    asked = web(**POLICIES[policy])
    clusters = ([here(), elsewhere()], [elsewhere()], [])
    got = [summary(ask(make_state((asked, endpoints)), source, target)) for endpoints in clusters]
    assert got == wanted


@pytest.mark.parametrize("target", [BALANCER, EXTERNAL, NODE_PORT])
def test_e12_without_a_detector_a_pod_is_outside(target: str, make_state: Make, ask: Ask) -> None:
    """X20: nobody can tell it from others."""
    asked, blind = web(external_traffic_local=True), Settings()
    state = make_state((asked, [here(), elsewhere()]), settings=blind)
    assert summary(ask(state, POD, target)) == HERE
    assert summary(ask(make_state((asked, [elsewhere()]), settings=blind), POD, target)) == DROP
    assert summary(ask(state, NODE, target)) == BOTH_MASQUERADED, "the node knows itself without one"


D2 = [
    # settings, then masqueraded on its way to a cluster IP: a pod, the node, outside
    (Settings(cluster_cidrs=("10.1.0.0/16",)), [False, True, True]),
    (Settings(cluster_cidrs=("10.1.0.0/16",), masquerade_all=True), [True, True, True]),
    (Settings(), [False, False, False]),
    (Settings(masquerade_all=True), [True, True, True]),
    (Settings(cluster_cidrs=("fd00::/8",)), [False, False, False]),
    (Settings(DetectLocalMode.NODE_CIDR), [True, True, True]),  # POD is another node's
    (Settings(DetectLocalMode.BRIDGE_INTERFACE, pod_interface="cni0"), [True, True, True]),
]


@pytest.mark.parametrize("internal_local", [False, True])
@pytest.mark.parametrize(("settings", "wanted"), D2)
def test_d2_d3_masquerading_to_cluster_ips(
    settings: Settings, wanted: list[bool], internal_local: bool, make_state: Make, ask: Ask
) -> None:
    state = make_state((web(internal_traffic_local=internal_local), [here()]), settings=settings)
    got = [ask(state, source, CLUSTER_IP).targets[0].masquerade for source in (POD, NODE, OUTSIDE)]
    assert got == wanted


DETECTORS = [
    # settings, source, interface, is it a pod's
    (Settings(cluster_cidrs=("10.1.0.0/16",)), "10.1.200.9", "", True),
    (Settings(cluster_cidrs=("10.1.0.0/16",)), "10.2.0.9", "", False),
    (Settings(DetectLocalMode.NODE_CIDR), "10.1.1.9", "", True),
    (Settings(DetectLocalMode.NODE_CIDR), "10.1.2.9", "", False),  # F4: another node's pod
    (Settings(DetectLocalMode.BRIDGE_INTERFACE, pod_interface="cni0"), "10.1.1.9", "cni0", True),
    (Settings(DetectLocalMode.BRIDGE_INTERFACE, pod_interface="cni0"), "10.1.1.9", "cni01", False),
    (Settings(DetectLocalMode.BRIDGE_INTERFACE, pod_interface="cni0"), "10.1.1.9", "", False),
    (Settings(DetectLocalMode.INTERFACE_NAME_PREFIX, pod_interface="veth"), "203.0.113.5", "veth12ab", True),
    (Settings(DetectLocalMode.INTERFACE_NAME_PREFIX, pod_interface="veth"), "10.1.1.9", "eth0", False),
    (Settings(DetectLocalMode.INTERFACE_NAME_PREFIX, pod_interface="veth"), NODE, "veth1", False),  # D11
    (Settings(), "10.1.1.9", "", None),
]


@pytest.mark.parametrize(("settings", "source", "interface", "wanted"), DETECTORS)
def test_d10_detector_modes(
    settings: Settings, source: str, interface: str, wanted: bool | None, make_state: Make, ask: Ask
) -> None:
    found = ask(make_state((web(), [here()]), settings=settings), source, CLUSTER_IP, "tcp", interface)
    assert found.sender.is_pod is wanted
    assert found.sender.why


def test_d10_node_cidr_that_is_not_known(make_state: Make, ask: Ask) -> None:
    state = make_state(
        (web(), [here()]), node=LocalNode(name="node-a"), settings=Settings(DetectLocalMode.NODE_CIDR)
    )
    found = ask(state, OUTSIDE, CLUSTER_IP)
    assert found.sender.why == "pods cannot be told without this node's pod CIDRs for IPv4"
    assert not found.targets[0].masquerade


def test_f2_the_address_of_the_pods_bridge_counts_as_a_pod(make_state: Make, ask: Ask) -> None:
    """It is the node's, but the rule for pods comes first."""
    state = make_state((web(external_traffic_local=True), [elsewhere()]))
    assert summary(ask(state, BRIDGE, BALANCER)) == ELSEWHERE
    assert summary(ask(state, BRIDGE, CLUSTER_IP)) == ELSEWHERE


def test_d8_hairpin(make_state: Make, ask: Ask) -> None:
    for policies in ({}, {"external_traffic_local": True, "internal_traffic_local": True}):
        found = ask(make_state((web(**policies), [here(), elsewhere()])), "10.1.1.11", CLUSTER_IP)
        assert summary(found).startswith(f"{HERE}*")
        assert found.targets[0].why == "hairpin: the endpoint reaches itself"
        assert not any(target.masquerade for target in found.targets[1:])


def test_d8_an_endpoint_of_another_node_is_no_hairpin(make_state: Make, ask: Ask) -> None:
    assert summary(ask(make_state((web(), [elsewhere()])), "10.1.2.11", CLUSTER_IP)) == ELSEWHERE


def test_d9_what_is_delivered_on_the_node_is_not_masqueraded(make_state: Make, ask: Ask) -> None:
    """An endpoint in the node's own network; but the node's own processes' packets do leave their stack."""
    host = endpoint_info("192.0.2.10", node="node-a")
    state = make_state((web(), [host, elsewhere()]))
    assert summary(ask(state, OUTSIDE, NODE_PORT)) == f"{ELSEWHERE}* 192.0.2.10:8080"
    assert summary(ask(state, NODE, NODE_PORT)) == f"{ELSEWHERE}* 192.0.2.10:8080*"
    (_, here_it_ends) = ask(state, OUTSIDE, NODE_PORT).targets
    assert "delivered on this node" in here_it_ends.why


FALLBACK = [
    ([here(ready=False, terminating=True), elsewhere()], POD, CLUSTER_IP, ELSEWHERE),
    ([here(ready=False, terminating=True), elsewhere(ready=False)], POD, CLUSTER_IP, HERE),
    ([here(ready=False, terminating=True, serving=False), elsewhere(ready=False)], POD, CLUSTER_IP, REJECT),
    ([here(ready=False, terminating=True), elsewhere()], OUTSIDE, BALANCER, HERE),  # B3
    ([here(ready=False), elsewhere()], OUTSIDE, BALANCER, DROP),
]


@pytest.mark.parametrize(("endpoints", "source", "target", "wanted"), FALLBACK)
def test_b1_to_b5_the_terminating_serve_where_nothing_is_ready(
    endpoints: list[EndpointInfo], source: str, target: str, wanted: str, make_state: Make, ask: Ask
) -> None:
    assert summary(ask(make_state((web(external_traffic_local=True), endpoints)), source, target)) == wanted


def test_a_go_brain_tells_no_short_circuit(make_state: Make, ask: Ask) -> None:
    """Then what it does tell for external traffic holds for everybody."""
    state = make_state((web(external_traffic_local=True), [here(), elsewhere()]), is_global=False)
    ((key, local),) = state.services.items()
    endpoints = {
        name: replace(endpoint, scopes=replace(endpoint.scopes, short_circuit=False))
        for name, endpoint in local.endpoints.items()
        if endpoint.scopes.external
    }
    told = replace(state, services={key: replace(local, endpoints=endpoints)})
    assert summary(ask(told, POD, BALANCER)) == HERE


@pytest.mark.parametrize(("available", "verdict"), [(3, DROP), (1, DROP), (2, REJECT), (0, REJECT)])
def test_e1_to_e3_the_state_says_whether_there_are_endpoints_elsewhere(
    available: int, verdict: str, make_state: Make, ask: Ask
) -> None:
    """Those that this node may not use it may not be told of; ``available`` is by family (IPv4 is 1)."""
    asked = web()
    told = replace(asked, ports=tuple(replace(port, available=available) for port in asked.ports))
    state = replace(make_state(is_global=False), services={told.key: local_service(told)})
    for source, target in ((POD, CLUSTER_IP), (NODE, BALANCER), (OUTSIDE, NODE_PORT)):
        assert summary(ask(state, source, target)) == verdict
