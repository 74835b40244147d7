"""Every flow of the conformance data, from manifests to the explanation: it says what the packets do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from kpng.conformance.flows import Expectation, Flow, NodeFacts, Scenario, for_backend, load_scenarios
from kpng.conformance.manifests import manifests
from kpng.conformance.results import ByDesign
from kpng.conformance.session import write
from kpng.explain import (
    ClusterState,
    Explanation,
    NodeState,
    Settings,
    Verdict,
    explain,
    parse_packet,
)
from kpng.kube.convert import Filters
from kpng.localize import LocalView
from kpng.model import DetectLocalMode, ProblemLog
from kpng.sources.file import FileSource
from kpng.store import EMPTY, Snapshot, Store

SCENARIOS = for_backend(load_scenarios(), "nft")
BY_DESIGN = ByDesign.of("nft")
VERDICTS = {"dnat": Verdict.FORWARD, "reject": Verdict.REJECT, "drop": Verdict.DROP, "none": Verdict.NONE}


async def read(path: Path, node: NodeFacts) -> tuple[Store, Snapshot]:
    """What the file source puts into a store."""
    store = Store()
    source = asyncio.create_task(
        FileSource(str(path), ProblemLog(), Filters(external_ips=node.external_ips)).run(store)
    )
    try:
        return store, await store.newer(EMPTY)
    finally:
        source.cancel()
        await asyncio.gather(source, return_exceptions=True)


async def state_of(scenario: Scenario, folder: Path) -> NodeState:
    path = folder / "cluster.json"
    write(path, manifests(scenario))
    store, snapshot = await read(path, scenario.node)
    changes = LocalView(store, scenario.node.name).advance(snapshot)
    assert changes is not None
    assert changes.node is not None
    return NodeState(
        node=changes.node,
        services={key: change.new for key, change in changes.changes.items() if change.new},
        settings=settings_of(scenario.node),
        addresses=frozenset(scenario.node.local_ips),
        cluster=ClusterState(
            {key: [info for _, info in record.endpoints()] for key, record in snapshot.services.items()},
            scenario.node.zone or "",
        ),
    )


def settings_of(node: NodeFacts) -> Settings:
    mode, value = node.detect_local.mode, node.detect_local.value
    common = Settings(masquerade_all=node.masquerade_all, node_port_addresses=node.nodeport_addresses)
    match mode:
        case "none":
            return common
        case "ClusterCIDR":
            return replace(common, cluster_cidrs=(value,))
        case _:
            return replace(common, detect_local_mode=DetectLocalMode(mode), pod_interface=value)


def ask(state: NodeState, flow: Flow) -> Explanation:
    target = f"[{flow.dst_ip}]:{flow.dst_port}" if ":" in flow.dst_ip else f"{flow.dst_ip}:{flow.dst_port}"
    return explain(state, parse_packet(flow.src_ip, target, flow.proto, flow.in_iface or ""))


def remembered(found: Explanation, endpoint: str) -> Explanation:
    """As it is for a client that affinity ties to this endpoint: that one, if it is among those explained."""
    assert any(note.startswith("session affinity") for note in found.notes)
    tied = tuple(target for target in found.targets if str(target) == endpoint)
    return replace(found, targets=tied or found.targets)


def difference(expected: Expectation, found: Explanation) -> str:
    """What is explained otherwise than it was seen; "" if nothing is."""
    wanted = {endpoint: expected.masquerades(endpoint) for endpoint in expected.dnat_to}
    got = {str(target): target.masquerade for target in found.targets}
    if VERDICTS[expected.verdict] is found.verdict and wanted == got:
        return ""
    return f"expected {expected.verdict} {wanted}, explained {found.verdict} {got}: {found.reason}"


def judge(scenario: Scenario, state: NodeState, flow: Flow) -> str:
    found = ask(state, flow)
    if flow.precondition:
        found = remembered(found, flow.precondition.client_last_sent_to)
    different = difference(flow.expect, found)
    return f"{flow.name}: {different}" if different else ""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_explains_what_the_packets_do(scenario: Scenario, tmp_path: Path) -> None:
    state = await state_of(scenario, tmp_path)
    faults = {flow.name: judge(scenario, state, flow) for flow in scenario.flows}
    unexpected = [fault for name, fault in faults.items() if fault and not BY_DESIGN.reason(scenario.name, name)]
    assert not unexpected, "\n".join(unexpected)


async def test_every_flow_is_asked_and_every_exemption_needed(tmp_path: Path) -> None:
    """What is answered otherwise on purpose is so here too: explain speaks for kpng, not for kube-proxy."""
    asked = sum(len(scenario.flows) for scenario in SCENARIOS)
    print(f"{asked} flows of {len(SCENARIOS)} scenarios")
    assert asked >= 1300
    exempt = [each for each in SCENARIOS if any(BY_DESIGN.reason(each.name, flow.name) for flow in each.flows)]
    for scenario in exempt:
        state = await state_of(scenario, tmp_path)
        assert any(judge(scenario, state, flow) for flow in scenario.flows), scenario.name
