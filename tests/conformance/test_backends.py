"""Real backends against the recorded flows, and what the run says of backends that do something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from kpng.backends import Backend
from kpng.backends.nft import NftBackend
from kpng.conformance import packetflows, session
from kpng.conformance.flows import Object, Scenario, for_backend, load_scenarios
from kpng.conformance.inside import run_inside
from kpng.conformance.packetflows import run_scenarios
from kpng.conformance.results import ByDesign, Exemption, Result, count
from kpng.lab.netns import Namespace
from kpng.model import ChangeSet

pytestmark = pytest.mark.netns

Make = Callable[..., Any]

REPRESENTATIVE = (
    "hairpin: endpoint pod",
    "iTP Cluster eTP Cluster; endpoints: no endpoints",
    "iTP Local eTP Cluster; endpoints: one local one remote",
    "LB ipMode VIP",
    "multi-port, multi-protocol",
    "masqueradeAll with",
    "host-network",
    "session affinity",
    "many endpoints",
    "informer filter: slice",
    "traffic not for any service",
)
"""Parts of names: one scenario and more of each kind that a backend has passed once."""


async def replay(
    scenarios: Sequence[Scenario], backend: type[Backend] = NftBackend, name: str = "nft"
) -> list[Result]:
    async def work(namespace: Namespace) -> list[Result]:
        return await run_scenarios(namespace, name, backend, scenarios, lambda *_: None)

    return await run_inside(work)


def failures(results: Sequence[Result]) -> list[Result]:
    return [result for result in results if result.state == "failed"]


async def test_nft_passes_a_representative_part() -> None:
    scenarios = [each for each in load_scenarios() if any(part in each.name for part in REPRESENTATIVE)]
    scenarios = for_backend(scenarios, "nft")
    results = await replay(scenarios)
    assert len(results) == sum(len(scenario.flows) for scenario in scenarios) > 100
    assert failures(results) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_nft_passes_everything(capsys: pytest.CaptureFixture[str]) -> None:
    results = await replay(for_backend(load_scenarios(), "nft"))
    failed = failures(results)
    passed, otherwise = count(results, "passed"), count(results, "by_design")
    with capsys.disabled():
        print(f"\nconformance of nft: {passed} flows passed, {len(failed)} failed, {otherwise} differ by design")
    assert failed == []
    assert len(results) == 1387
    assert otherwise == 7


# -- what the run says ------------------------------------------------------------------------------


class Idle(Backend):
    """Does nothing."""

    async def apply(self, changes: ChangeSet) -> None: ...


class Broken(Idle):
    async def apply(self, changes: ChangeSet) -> None:
        raise OSError("out of order")


def two_endpoints(scenario_json: Make, flow_json: Make, *flows: Object, affinity: bool = False) -> Scenario:
    content = msgspec.json.decode(msgspec.json.encode(scenario_json(flows=list(flows))))
    content["endpointslices"][0]["endpoints"] = [{"addresses": ["10.1.0.1"]}, {"addresses": ["10.1.0.2"]}]
    if affinity:
        content["services"][0]["spec"]["sessionAffinity"] = "ClientIP"
    return msgspec.convert(content, Scenario)


def to(*endpoints: str) -> Object:
    return {"verdict": "dnat", "dnat_to": [f"{each}:8080" for each in endpoints], "masquerade": False}


async def test_a_backend_that_does_nothing_fails_by_what_is_seen(make_scenario: Make) -> None:
    (result,) = await replay([make_scenario()], Idle, "idle")
    assert (result.state, result.expected, result.seen) == ("failed", "dnat 10.1.0.1:8080", "none")


async def test_a_backend_that_fails_is_quoted(make_scenario: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "APPLY_SECONDS", 0.2)
    (result,) = await replay([make_scenario()], Broken, "broken")
    assert (result.state, result.seen) == ("failed", "not applied: OSError: out of order")


async def test_results_come_in_the_order_of_flows(scenario_json: Make, flow_json: Make) -> None:
    before = {"precondition": {"client_last_sent_to": "10.1.0.2:8080"}}
    flows = [
        flow_json(name="one", expect=to("10.1.0.1", "10.1.0.2")),
        flow_json(name="two", src_ip="10.1.0.8", expect=to("10.1.0.2"), **before),
        flow_json(name="three", dst_port=81, expect={"verdict": "reject"}),
        flow_json(name="two", src_ip="10.1.0.7", expect=to("10.1.0.2"), **before),
    ]
    results = await replay([two_endpoints(scenario_json, flow_json, *flows, affinity=True)])
    assert [result.flow for result in results] == ["one", "two", "three", "two"]
    assert [result.seen for result in results][1::2] == ["dnat 10.1.0.2:8080"] * 2


async def test_an_endpoint_that_is_never_hit_is_a_failure(scenario_json: Make, flow_json: Make) -> None:
    """The slice has two endpoints; a third is expected, or one too few."""
    flows = [
        flow_json(name="fair", expect=to("10.1.0.1", "10.1.0.2")),
        flow_json(name="one too many expected", expect=to("10.1.0.1", "10.1.0.2", "10.1.0.3")),
        *(flow_json(name=f"one too few expected {n}", expect=to("10.1.0.1")) for n in range(20)),
    ]
    fair, many, *few = await replay([two_endpoints(scenario_json, flow_json, *flows)])
    assert fair.state == "passed"
    assert many.state == "failed"
    assert many.seen.endswith(", never 10.1.0.3:8080")
    assert "failed" in {each.state for each in few}  # a flow is tried a few times; not all of 20 go to the same


async def test_affinity_that_is_not_kept_is_a_failure(scenario_json: Make, flow_json: Make) -> None:
    before = {"precondition": {"client_last_sent_to": "10.1.0.2:8080"}}
    flow = flow_json(expect=to("10.1.0.2"), **before)
    kept, lost = [two_endpoints(scenario_json, flow_json, flow, affinity=on) for on in (True, False)]
    results = await replay([kept, *[lost] * 3])
    assert results[0].state == "passed"
    assert "failed" in {result.state for result in results[1:]}


async def test_a_precondition_that_cannot_be_met_is_told(scenario_json: Make, flow_json: Make) -> None:
    before = {"precondition": {"client_last_sent_to": "10.1.0.2:8080"}}
    flow = flow_json(dst_port=81, expect=to("10.1.0.2"), **before)
    (result,) = await replay([two_endpoints(scenario_json, flow_json, flow, affinity=True)])
    assert result.state == "failed"
    assert result.seen.startswith("not sent to 10.1.0.2:8080 before, but ")


async def test_what_differs_by_design_is_counted_apart(
    make_scenario: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    exceptions = ByDesign([Exemption("a service", "it does nothing")])
    monkeypatch.setattr(packetflows.ByDesign, "of", lambda _: exceptions)
    (result,) = await replay([make_scenario()], Idle, "idle")
    assert (result.state, result.reason) == ("by_design", "it does nothing")
