"""The lab must fail proxies that are wrong. Here are some, written by hand instead of by kpng."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace

import pytest

from kpng.lab import live, traffic
from kpng.lab.cluster import Cluster
from kpng.lab.outcome import Outcome
from kpng.lab.services import EMPTY, SERVICES, SHOP, STICKY, WEB, WEB_LOCAL, WEB_NEAR, ZONAL, ServicePlan
from kpng.lab.state import directory
from kpng.lab.topology import PodPlan, Topology, plan

pytestmark = [pytest.mark.netns, pytest.mark.slow]


def rules(service: ServicePlan, pods: Iterable[PodPlan]) -> list[str]:
    """DNAT for the IPv4 addresses of a service, to these pods whatever happens."""
    ports = (("tcp", 80, 8080), ("tcp", 7, 7007), ("udp", 8, 7008))
    addresses = [service.cluster_ips.ipv4, *(ip for ip in service.outside_ips if ":" not in ip)]
    made = []
    for index, (protocol, port, target) in enumerate(ports):
        chosen = [pod.addresses.ipv4 for pod in pods]
        mapped = ", ".join(f"{number} : {address}" for number, address in enumerate(chosen))
        dnat = f"dnat to numgen random mod {len(chosen)} map {{ {mapped} }}:{target}"
        made.append(f"ip daddr {{ {', '.join(addresses)} }} {protocol} dport {port} {dnat}")
        if service.node_port:
            made.append(f"fib daddr type local {protocol} dport {service.node_port + index} {dnat}")
    return made


def ruleset(lines: Iterable[str], masquerade: str) -> str:
    body = "\n".join(lines)
    return f"""table ip wrong {{
        chain forward {{ {body}; }}
        chain prerouting {{ type nat hook prerouting priority dstnat; jump forward; }}
        chain output {{ type nat hook output priority -100; jump forward; }}
        chain postrouting {{ type nat hook postrouting priority srcnat; {masquerade} }}
    }}"""


MASQUERADE_ALL = "ct status dnat masquerade;"
MASQUERADE_NOTHING = ""


def everywhere(topology: Topology) -> list[str]:
    """Every service goes to every pod of its application."""
    return [line for service in SERVICES if service.app for line in rules(service, topology.pods_of(service.app))]


def only_first(topology: Topology) -> list[str]:
    """Every service goes to one pod only."""
    return [
        line for service in SERVICES if service.app for line in rules(service, topology.pods_of(service.app)[:1])
    ]


@pytest.fixture
async def cluster(lab_name: str) -> AsyncIterator[Cluster]:
    """A cluster with API server and pods, and nothing that forwards."""
    directory(lab_name).mkdir()
    built = Cluster(plan(lab_name), directory(lab_name))
    try:
        built.build()
        await built.start_api_server()
        await built.start_pods()
        yield built
    finally:
        built.close()
        built.processes.kill()


def program(cluster: Cluster, text: str) -> None:
    """Replace what the nodes were told before."""
    fresh = "".join(f"table ip {table} {{}}\ndelete table ip {table}\n" for table in ("wrong", "empty"))
    for node in cluster.topology.nodes:
        cluster.machines[node.name].run("nft", "-f", "-", stdin=fresh + text)


async def failed(cluster: Cluster, wanted: Callable[[str], bool]) -> set[str]:
    """Titles of the scenarios over IPv4 that fail, of those that are wanted."""
    found = set()
    for scenario in traffic.scenarios(cluster.topology):
        if ":" not in scenario.target.address and wanted(scenario.title):
            outcome = await traffic.send(replace(scenario, seconds=0.1), cluster.probers)
            if not outcome.passed:
                found.add(outcome.title)
    return found


def of_traffic(title: str) -> bool:
    return not title.startswith("no endpoints")


async def test_a_proxy_that_masquerades_and_spreads_everything(cluster: Cluster) -> None:
    """It fails where the client's address counts, and where not every endpoint may be used."""
    program(cluster, ruleset(everywhere(cluster.topology), MASQUERADE_ALL))
    assert await failed(cluster, of_traffic) == {
        "cluster IP from a pod",
        "client address kept (Local), IPv4",
        "client address kept, node port",
        "policy Local, node without endpoints",
        "internal policy Local, some here",
        "internal policy Local, none here",
        "zone hints, node in zone-a",
        "zone hints, node in zone-b",
        "session affinity, one client",
        "session affinity, client outside",
        "session affinity, many clients",
    }


async def test_a_proxy_that_masquerades_nothing(cluster: Cluster) -> None:
    """Answers of pods elsewhere go past the node that the client asked: nothing comes back as it should."""
    program(cluster, ruleset(everywhere(cluster.topology), MASQUERADE_NOTHING))
    wrong = await failed(cluster, lambda title: "outside" in title or "hairpin" in title or "node port" in title)
    assert {"a pod reaches itself (hairpin), IPv4", "node port, node without endpoints", "node port, UDP"} <= wrong


async def test_a_proxy_that_uses_one_endpoint_only(cluster: Cluster) -> None:
    program(cluster, ruleset(only_first(cluster.topology), MASQUERADE_ALL))
    wrong = await failed(cluster, of_traffic)
    assert {"cluster IP from a node", "cluster IP, UDP", "load-balancer IP", "external IP"} <= wrong
    assert "session affinity, many clients" in wrong
    assert "session affinity, one client" not in wrong


REJECT_EMPTY = "reject with icmp port-unreachable"


def filtering(topology: Topology, verdict: str) -> str:
    """What becomes of traffic to services without endpoints, beside a proxy that forwards the rest."""
    addresses = f"{EMPTY.cluster_ips.ipv4}, {WEB_NEAR.cluster_ips.ipv4}"
    rule = f"ip daddr {{ {addresses} }} {verdict};"
    hooks = "".join(
        f"chain {hook} {{ type filter hook {hook} priority filter; {rule} }}\n" for hook in ("forward", "output")
    )
    forwarded = [line for line in everywhere(topology) if WEB_NEAR.cluster_ips.ipv4 not in line]
    return ruleset(forwarded, MASQUERADE_ALL) + f"\ntable ip empty {{ {hooks} }}"


REFUSALS = {"no endpoints: refused at once", "no endpoints, UDP", "no endpoints, from a node"}
SILENCE = "internal policy Local, none here"
VERDICTS: list[tuple[str, set[str], set[str]]] = [  # verdict, titles that must fail, titles that must pass
    (REJECT_EMPTY, {SILENCE}, REFUSALS),
    ("drop", REFUSALS, {SILENCE}),
    ("reject with icmp net-unreachable", {"no endpoints: refused at once", "no endpoints, UDP"}, set()),
    ("reject with icmp admin-prohibited", {"no endpoints: refused at once", "no endpoints, UDP"}, set()),
]


async def test_proxies_that_confuse_refusal_and_silence(cluster: Cluster) -> None:
    """Without endpoints: "port unreachable", nothing else; none here under policy Local: not a word (KEP-2086)."""
    for verdict, fail, pass_ in VERDICTS:
        program(cluster, filtering(cluster.topology, verdict))
        found = await failed(cluster, lambda title: title in {*REFUSALS, SILENCE})
        assert fail <= found, verdict
        assert not pass_ & found, verdict


async def live_outcomes(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> dict[str, Outcome]:
    monkeypatch.setattr(live, "EFFECT_SECONDS", 0.5)
    return {outcome.title: outcome async for outcome in live.scenarios(cluster)}


async def test_a_proxy_that_does_not_follow_changes(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    program(cluster, ruleset(everywhere(cluster.topology), MASQUERADE_ALL))
    outcomes = await live_outcomes(cluster, monkeypatch)
    leaves = outcomes["a pod goes away, under load"]
    assert "shop-2 was still hit 0.5 s after the change" in leaves.problems
    assert any("requests failed" in problem for problem in leaves.problems)
    assert not any(
        outcomes[title].passed
        for title in ("a service gets its first endpoint", "a service loses its last endpoint", "a new service")
    )


async def test_no_proxy_at_all(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = await live_outcomes(cluster, monkeypatch)
    assert len(outcomes) == 5
    assert not any(outcome.passed for outcome in outcomes.values())
    assert "no connection to 10.96.0.84:7 tcp" in outcomes["a pod goes away, under load"].problems[0]


def test_the_services_of_these_tests_are_the_labs() -> None:
    assert {WEB, WEB_LOCAL, WEB_NEAR, STICKY, SHOP, ZONAL} < set(SERVICES)
    assert all("dnat to numgen random mod 3" in line for line in rules(WEB, plan().pods_of("web")))
