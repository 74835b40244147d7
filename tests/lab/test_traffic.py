"""The table of scenarios, and that it fails where nothing forwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kpng.lab import traffic
from kpng.lab.netns import Namespace
from kpng.lab.network import build
from kpng.lab.probes import Prober, Target
from kpng.lab.services import SERVICES
from kpng.lab.topology import CLIENT, plan
from kpng.lab.traffic import Traffic, scenarios


@pytest.mark.parametrize("node_count", [2, 3])
def test_titles_are_unique_and_everything_is_checked(node_count: int) -> None:
    table = list(scenarios(plan("lab", node_count)))
    assert len({scenario.title for scenario in table}) == len(table)
    assert all(scenario.checks and scenario.count for scenario in table)
    assert {scenario.origin for scenario in table} <= set(plan("lab", node_count).machines)


def test_every_kind_of_address_protocol_and_family_is_sent_to() -> None:
    topology = plan()
    targets = [scenario.target for scenario in scenarios(topology)]
    assert {target.protocol for target in targets} == {"http", "tcp", "udp"}
    node_addresses = {address for node in topology.nodes for address in node.addresses.both}
    for family in (".", ":"):
        sent_to = {target.address for target in targets if family in target.address}
        assert sent_to & node_addresses
        assert sent_to & {address for service in SERVICES for address in service.cluster_ips.both}
        assert sent_to & {ip for service in SERVICES for ip in service.outside_ips}


def test_sources_belong_to_the_client_outside() -> None:
    topology = plan()
    known = {address for client in topology.clients for address in client.both}
    for scenario in scenarios(topology):
        given = {source for source in scenario.sources if source}
        assert given <= known
        assert not given or scenario.origin == CLIENT


def test_node_ports_are_counted_in_the_order_of_the_ports() -> None:
    node = plan().nodes[0]
    ports = [traffic._node_port(SERVICES[0], node, port).port for port in ("http", "echo-tcp", "echo-udp")]
    assert ports == [30080, 30081, 30082]


@pytest.fixture
def probers(lab_name: str) -> Iterator[dict[str, Prober]]:
    machines: dict[str, Namespace] = build(plan(lab_name))
    senders = {machine: Prober(namespace) for machine, namespace in machines.items()}
    yield senders
    for sender in senders.values():
        sender.close()


@pytest.mark.netns
async def test_where_nothing_forwards_no_scenario_passes_but_those_that_expect_silence(
    lab_name: str, probers: dict[str, Prober]
) -> None:
    passed = []
    for scenario in scenarios(plan(lab_name)):
        brief = Traffic(scenario.title, scenario.origin, scenario.target, scenario.checks, count=1, seconds=0.02)
        if (await traffic.send(brief, probers)).passed:
            passed.append(scenario.title)
    # A node port that nobody listens on refuses by itself; and a packet to nowhere is as silent as a dropped one.
    assert set(passed) <= {"no endpoints, node port", "internal policy Local, none here"}


@pytest.mark.netns
async def test_sources_take_turns(probers: dict[str, Prober], lab_name: str) -> None:
    sources = tuple(client.ipv4 for client in plan(lab_name).clients[:2])
    target = Target("http", plan(lab_name).nodes[0].addresses.ipv4, 9)
    outcome = await traffic.send(Traffic("t", CLIENT, target, (), count=3, sources=sources), probers)
    assert outcome.tally.errors == {"refused": 3}
    assert outcome.origin == CLIENT
    assert outcome.target == "192.0.2.11:9"
