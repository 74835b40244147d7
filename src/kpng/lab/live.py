"""Scenarios that change something through the API server, and measure when the change shows in traffic."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace

from kpng.model import FAMILIES

from .api import SERVICES, SLICES
from .cluster import Cluster
from .load import Load, load, since
from .manifests import endpoint, service_object, slice_object
from .outcome import SCENARIO_SECONDS, Outcome, all_answered, describe_errors, judge, overdue
from .probes import REFUSED, Conversation, Reply, Tally, Target
from .processes import LabError
from .services import EMPTY, SERVICE_PORTS, SHOP, WEB, ServicePlan
from .topology import PodPlan
from .traffic import CALLER, cluster_ip

EFFECT_SECONDS = 5.0  # a change must show within that time
QUIET_REPLIES = 60  # so many answers without one of a pod: it is out (of two, by chance: once in 10**18)
PROBE_SECONDS = 0.1  # a packet to a cluster IP that is not programmed yet may get no answer at all
STEADY_SECONDS = 0.3
NEW = ServicePlan("new", WEB.app, WEB.cluster_ips)


async def scenarios(cluster: Cluster) -> AsyncIterator[Outcome]:
    """Run every scenario; afterwards the cluster is as it was before. One that cannot be run is a failed one."""
    for title, scenario in _SCENARIOS.items():
        try:
            async with asyncio.timeout(SCENARIO_SECONDS):
                outcome = replace(await scenario(cluster), title=title)
        except (LabError, TimeoutError) as error:
            cluster.processes.check()
            outcome = Outcome(title, CALLER, "", Tally(), problems=(str(error) or overdue(),))
        yield outcome


async def pod_leaves(cluster: Cluster) -> Outcome:
    """Under load a pod is marked as terminating, traffic leaves it, its server ends, its endpoint is removed."""
    stays, leaves = cluster.topology.pods_of(SHOP.app)
    async with load(cluster.probers[CALLER], cluster_ip(SHOP)) as sending, _conversation(cluster, leaves) as talk:
        problems = await _wait_for_hits(sending, stays, leaves)
        written = time.monotonic()
        await _set_endpoints(cluster, (stays,), terminating=(leaves,))
        quiet = await sending.until(lambda replies: _is_quiet(replies, written, leaves.name), EFFECT_SECONDS)
        problems += () if quiet else (f"{leaves.name} was still hit {EFFECT_SECONDS:g} s after the change",)
        problems += () if await talk.goes_on() else ("a connection from before the change was cut",)
        await cluster.processes.stop(leaves.name)
        await _set_endpoints(cluster, (stays,))
        await asyncio.sleep(STEADY_SECONDS)
    problems += judge(sending.tally, (all_answered,))
    hits = since(sending.tally.replies, written, leaves.name)
    last = 1000 * (hits[-1].at - written) if hits else 0
    note = f"last hit {last:.0f} ms after the write to the API server" if hits else "no hit after the write"
    note += "; a connection from before goes on until the pod ends" if not problems else ""
    return _outcome(cluster_ip(SHOP), sending.tally, note, problems)


async def pod_returns(cluster: Cluster) -> Outcome:
    """Under load the pod's server starts again, and its endpoint is added."""
    stays, returns = cluster.topology.pods_of(SHOP.app)
    if returns.name not in cluster.processes.pids():
        await cluster.start_pod(returns)
    async with load(cluster.probers[CALLER], cluster_ip(SHOP)) as sending:
        written = time.monotonic()
        await _set_endpoints(cluster, (stays, returns))
        problems = await _wait_for_hits(sending, stays, returns)
        await asyncio.sleep(STEADY_SECONDS)
    problems += judge(sending.tally, (all_answered,))
    hits = since(sending.tally.replies, written, returns.name)
    note = f"first hit {1000 * (hits[0].at - written):.0f} ms after the write" if hits else ""
    return _outcome(cluster_ip(SHOP), sending.tally, note, problems)


async def first_endpoint(cluster: Cluster) -> Outcome:
    """A service that refused everything gets an endpoint."""
    made = slice_object(cluster.topology, EMPTY.name, cluster.topology.pods_of(WEB.app)[:1], FAMILIES[0])
    written = time.monotonic()
    await cluster.api.create(SLICES, made)
    return await _until_answered(cluster, cluster_ip(EMPTY), written)


async def last_endpoint(cluster: Cluster) -> Outcome:
    """It loses that endpoint again, and refuses again."""
    name = slice_object(cluster.topology, EMPTY.name, (), FAMILIES[0])["metadata"]["name"]
    written = time.monotonic()
    await cluster.api.delete(SLICES, name)
    tally, milliseconds = await _repeat(cluster, cluster_ip(EMPTY), written, lambda reply: reply.error == REFUSED)
    refused = milliseconds is not None
    note = f"first refused {milliseconds:.0f} ms after the write" if refused else ""
    problems = () if refused else (f"never refused; {tally.answered} answers, {describe_errors(tally)}",)
    return _outcome(cluster_ip(EMPTY), tally, note, problems)


async def new_service(cluster: Cluster) -> Outcome:
    """A service is made, with a cluster IP of the API server's choice; afterwards it is deleted."""
    pods = cluster.topology.pods_of(NEW.app)
    made = service_object(NEW)
    for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        del made["spec"][key]
    sliced = slice_object(cluster.topology, NEW.name, pods, FAMILIES[0])
    written = time.monotonic()
    try:
        service = await cluster.api.create(SERVICES, made)
        await cluster.api.create(SLICES, sliced)
        target = Target("http", service["spec"]["clusterIP"], SERVICE_PORTS["http"])
        return await _until_answered(cluster, target, written)
    finally:
        await cluster.api.delete(SERVICES, NEW.name)
        await cluster.api.delete(SLICES, sliced["metadata"]["name"])


@asynccontextmanager
async def _conversation(cluster: Cluster, pod: PodPlan) -> AsyncIterator[Conversation]:
    """A TCP connection to this pod, through the service. Raises `LabError` if there is none to be had."""
    talk = await _converse(cluster, pod)
    with closing(talk):
        yield talk


async def _converse(cluster: Cluster, pod: PodPlan) -> Conversation:
    target = cluster_ip(SHOP, "echo-tcp")
    for _ in range(QUIET_REPLIES):
        try:
            talk = await cluster.probers[CALLER].open(target)
        except (OSError, TimeoutError, ValueError) as error:
            raise LabError(f"no connection to {target}: {str(error) or 'timeout'}") from None
        if talk.pod == pod.name:
            return talk
        talk.close()
    raise LabError(f"no connection to {target} reached {pod.name}")


async def _set_endpoints(
    cluster: Cluster, ready: tuple[PodPlan, ...], terminating: tuple[PodPlan, ...] = ()
) -> None:
    """Write the endpoints of the service `SHOP`, in both families."""
    topology = cluster.topology
    for family in FAMILIES:
        endpoints = [endpoint(topology, pod, family) for pod in ready]
        endpoints += [endpoint(topology, pod, family, terminating=True) for pod in terminating]
        name = slice_object(topology, SHOP.name, (), family)["metadata"]["name"]
        await cluster.api.patch(SLICES, name, {"endpoints": endpoints})


async def _wait_for_hits(sending: Load, *pods: PodPlan) -> tuple[str, ...]:
    names = {pod.name for pod in pods}
    seen = await sending.until(lambda _: names <= set(sending.tally.endpoints), EFFECT_SECONDS)
    missing = names - set(sending.tally.endpoints)
    return () if seen else (f"never answered: {', '.join(sorted(missing))}",)


def _is_quiet(replies: list[Reply], moment: float, pod: str) -> bool:
    recent = since(replies, moment)[-QUIET_REPLIES:]
    return len(recent) == QUIET_REPLIES and all(reply.pod != pod for reply in recent)


async def _until_answered(cluster: Cluster, target: Target, written: float) -> Outcome:
    tally, milliseconds = await _repeat(cluster, target, written, lambda reply: reply.ok)
    problems = () if milliseconds is not None else (f"no answer; {describe_errors(tally)}",)
    note = f"first answer {milliseconds:.0f} ms after the write" if milliseconds is not None else ""
    answered = Tally([reply for reply in tally.replies if reply.ok])
    return _outcome(target, answered, note, problems)


async def _repeat(
    cluster: Cluster, target: Target, written: float, met: Callable[[Reply], bool]
) -> tuple[Tally, float | None]:
    """Send until a request ends as it should; the milliseconds from ``written`` to that end."""
    tally = Tally()
    while time.monotonic() < written + EFFECT_SECONDS:
        reply = await cluster.probers[CALLER].send(target, seconds=PROBE_SECONDS)
        tally.replies.append(reply)
        if met(reply):
            return tally, 1000 * (reply.at + reply.seconds - written)
        await asyncio.sleep(0.001)
    return tally, None


def _outcome(target: Target, tally: Tally, note: str, problems: tuple[str, ...]) -> Outcome:
    return Outcome("", CALLER, str(target), tally, note, problems)


_SCENARIOS: dict[str, Callable[[Cluster], Awaitable[Outcome]]] = {
    "a pod goes away, under load": pod_leaves,
    "a pod comes back, under load": pod_returns,
    "a service gets its first endpoint": first_endpoint,
    "a service loses its last endpoint": last_endpoint,
    "a new service": new_service,
}
