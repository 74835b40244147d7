"""Scenarios that send traffic and look where it went, as a table. Nothing in the cluster changes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kpng.model import FAMILIES, Family

from .outcome import (
    SCENARIO_SECONDS,
    Check,
    Outcome,
    all_answered,
    all_end_as,
    faster_than,
    hits_exactly,
    hits_one,
    hits_several,
    judge,
    never_saw_itself,
    overdue,
    same_each_round,
    saw_clients,
)
from .probes import REFUSED, TIMEOUT, Prober, Tally, Target
from .services import EMPTY, SERVICE_PORTS, STICKY, WEB, WEB_LOCAL, WEB_NEAR, ZONAL, ServicePlan
from .topology import CLIENT, NodePlan, Topology

REQUESTS = 60  # three endpoints chosen at random: one of them is missed once in 10 billion runs
FEW = 5
ENOUGH_FAILURES = 5  # then the verdict is clear, and waiting for more would only take time
CALLER = "caller"


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests from one place to one target, and what must come of them.

    ``sources`` are the client's addresses to send from in turn ("" lets the machine choose).
    """

    title: str
    origin: str
    target: Target
    checks: tuple[Check, ...]
    count: int = REQUESTS
    sources: tuple[str, ...] = ("",)
    seconds: float = 1.0


async def send(traffic: Traffic, probers: Mapping[str, Prober]) -> Outcome:
    """Send it, one request after the other until enough have failed, and judge."""
    tally = Tally()
    try:
        async with asyncio.timeout(SCENARIO_SECONDS):
            await _fill(tally, traffic, probers[traffic.origin])
        problems = judge(tally, traffic.checks)
    except TimeoutError:
        problems = (overdue(),)
    return Outcome(traffic.title, traffic.origin, str(traffic.target), tally, problems=problems)


async def _fill(tally: Tally, traffic: Traffic, prober: Prober) -> None:
    for index in range(traffic.count):
        source = traffic.sources[index % len(traffic.sources)]
        tally.replies.append(await prober.send(traffic.target, source=source, seconds=traffic.seconds))
        if tally.sent - tally.answered >= ENOUGH_FAILURES:
            return


def scenarios(topology: Topology) -> Iterator[Traffic]:
    """Every scenario, in the order of the report."""
    yield from _cluster_ips(topology)
    yield from _from_outside(topology)
    yield from _traffic_policies(topology)
    yield from _zones(topology)
    yield from _affinity(topology)
    yield from _no_endpoints(topology)


def cluster_ip(service: ServicePlan, port: str = "http", family: Family = Family.IPV4) -> Target:
    """A service's cluster IP and port as a target."""
    return Target(_protocol(port), service.cluster_ips.of(family), SERVICE_PORTS[port])


def _node_port(service: ServicePlan, node: NodePlan, port: str = "http", family: Family = Family.IPV4) -> Target:
    number = service.node_port + list(SERVICE_PORTS).index(port)
    return Target(_protocol(port), node.addresses.of(family), number)


def _load_balancer(service: ServicePlan, family: Family = Family.IPV4) -> Target:
    assert service.load_balancer is not None
    return Target("http", service.load_balancer.of(family), SERVICE_PORTS["http"])


def _external_ip(service: ServicePlan, family: Family = Family.IPV4) -> Target:
    assert service.external_ips is not None
    return Target("http", service.external_ips.of(family), SERVICE_PORTS["http"])


def _protocol(port: str) -> str:
    return port.removeprefix("echo-")


def _all_web(topology: Topology) -> tuple[Check, ...]:
    return all_answered, hits_exactly(*(pod.name for pod in topology.pods_of("web")))


def _cluster_ips(topology: Topology) -> Iterator[Traffic]:
    good = _all_web(topology)
    idle, caller = topology.idle_node, topology.pod(CALLER)
    yield Traffic("cluster IP from a pod", CALLER, cluster_ip(WEB), (*good, saw_clients(caller.addresses.ipv4)))
    yield Traffic("cluster IP from a node", idle.name, cluster_ip(WEB), good)
    yield Traffic("cluster IP, TCP echo", CALLER, cluster_ip(WEB, "echo-tcp"), good)
    yield Traffic("cluster IP, UDP", CALLER, cluster_ip(WEB, "echo-udp"), good)
    ipv6_good = (*good, saw_clients(caller.addresses.ipv6))
    yield Traffic("cluster IP, IPv6", CALLER, cluster_ip(WEB, family=Family.IPV6), ipv6_good)
    yield Traffic("cluster IP, IPv6 from a node", idle.name, cluster_ip(WEB, family=Family.IPV6), good)
    yield Traffic("cluster IP, IPv6, UDP", CALLER, cluster_ip(WEB, "echo-udp", Family.IPV6), good)
    # A pod that reaches itself must see another address than its own, else it would answer past the node.
    web = topology.pods_of("web")[0]
    for family in FAMILIES:
        checks = (*good, never_saw_itself(web.name, web.addresses.of(family)))
        title = f"a pod reaches itself (hairpin), IPv{family}"
        yield Traffic(title, web.name, cluster_ip(WEB, family=family), checks)


def _from_outside(topology: Topology) -> Iterator[Traffic]:
    good = _all_web(topology)
    busy, idle = topology.busy_node, topology.idle_node
    yield Traffic("node port, node with endpoints", CLIENT, _node_port(WEB, busy), good)
    yield Traffic("node port, node without endpoints", CLIENT, _node_port(WEB, idle), good)
    yield Traffic("node port, UDP", CLIENT, _node_port(WEB, idle, "echo-udp"), good)
    yield Traffic("node port, IPv6", CLIENT, _node_port(WEB, idle, family=Family.IPV6), good)
    yield Traffic("load-balancer IP", CLIENT, _load_balancer(WEB), good)
    yield Traffic("load-balancer IP, IPv6", CLIENT, _load_balancer(WEB, Family.IPV6), good)
    yield Traffic("external IP", CLIENT, _external_ip(WEB), good)
    yield Traffic("external IP, IPv6", CLIENT, _external_ip(WEB, Family.IPV6), good)
    yield Traffic("load-balancer IP from a pod", CALLER, _load_balancer(WEB), good)


def _traffic_policies(topology: Topology) -> Iterator[Traffic]:
    busy, idle = topology.busy_node, topology.idle_node
    near = tuple(pod.name for pod in topology.pods_of("web") if pod.node == busy.name)
    for family in FAMILIES:
        client = topology.clients[0].of(family)
        checks = (all_answered, hits_exactly(*near), saw_clients(client))
        source = (client,)
        title = f"client address kept (Local), IPv{family}"
        yield Traffic(title, CLIENT, _load_balancer(WEB_LOCAL, family), checks, sources=source)
    client = topology.clients[0].ipv4
    checks = (all_answered, hits_exactly(*near), saw_clients(client))
    yield Traffic("client address kept, node port", CLIENT, _node_port(WEB_LOCAL, busy), checks, sources=(client,))
    dropped = (all_end_as(TIMEOUT),)
    yield Traffic(
        "policy Local, node without endpoints", CLIENT, _node_port(WEB_LOCAL, idle), dropped, 2, seconds=0.3
    )
    good = (all_answered, hits_exactly(*near))
    yield Traffic("internal policy Local, some here", busy.name, cluster_ip(WEB_NEAR), good)
    yield Traffic("internal policy Local, none here", CALLER, cluster_ip(WEB_NEAR), dropped, 2, seconds=0.3)


def _zones(topology: Topology) -> Iterator[Traffic]:
    """Hints keep traffic in the zone; a zone that no hint names uses everything."""
    web = topology.pods_of("web")
    for node in (topology.busy_node, topology.idle_node):
        same = tuple(pod.name for pod in web if topology.node(pod.node).zone == node.zone)
        good = (all_answered, hits_exactly(*(same or (pod.name for pod in web))))
        yield Traffic(f"zone hints, node in {node.zone}", node.name, cluster_ip(ZONAL), good)


def _affinity(topology: Topology) -> Iterator[Traffic]:
    one = (all_answered, hits_one)
    yield Traffic("session affinity, one client", CALLER, cluster_ip(STICKY), one)
    yield Traffic("session affinity, IPv6", CALLER, cluster_ip(STICKY, family=Family.IPV6), one)
    target = _node_port(STICKY, topology.idle_node)
    clients = tuple(client.ipv4 for client in topology.clients)
    yield Traffic("session affinity, client outside", CLIENT, target, one, sources=clients[:1])
    many = (all_answered, hits_several, same_each_round(len(clients)))
    yield Traffic("session affinity, many clients", CLIENT, target, many, 3 * len(clients), sources=clients)


def _no_endpoints(topology: Topology) -> Iterator[Traffic]:
    refused = (all_end_as(REFUSED), faster_than(100))
    yield Traffic("no endpoints: refused at once", CALLER, cluster_ip(EMPTY), refused, FEW)
    yield Traffic("no endpoints, UDP", CALLER, cluster_ip(EMPTY, "echo-udp"), refused, FEW)
    yield Traffic("no endpoints, IPv6", CALLER, cluster_ip(EMPTY, family=Family.IPV6), refused, FEW)
    yield Traffic("no endpoints, from a node", topology.idle_node.name, cluster_ip(EMPTY), refused, FEW)
    yield Traffic("no endpoints, node port", CLIENT, _node_port(EMPTY, topology.idle_node), refused, FEW)
