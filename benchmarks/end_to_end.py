"""From a write to the API server to a packet that the new endpoint answers.

    python -m benchmarks.end_to_end --services 5000 --endpoints 10 --changes 100 --json FILE
    python -m benchmarks.end_to_end --brain --peer-kube-proxy PATH

Needs root; works in network namespaces of its own: a world with the embedded API server and the endpoints, a node
with the agent (``kpng kube to-local to-nft``; with ``--brain`` a ``kpng kube to-api`` and a ``kpng local to-nft``),
and a client behind it. The client connects to a service without pause, while the service's only endpoint is
replaced by another: measured is the time from sending the write to the first connection that the new one has
answered. ``api_`` is the part of it until the API server has answered the write (the event goes out before that).

A peer gets a node of its own, and the same changes, after kpng has ended. ``cold_start_s`` is from the start of the
process until services from all over the cluster are answered. With ``--kubeconfig`` the API server is a real one:
its cluster gets the Services (and, if it has none, Nodes), which are removed at the end; the brain runs outside of
the namespaces then, and the agent reaches it by a unix socket.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.cluster_rig import (
    API_PORT,
    BRAIN_PORT,
    KPNG,
    Node,
    Prober,
    Process,
    Rig,
    RigError,
    run_to_end,
    until,
)
from benchmarks.harness import Figures, cpu_seconds, parser, report, resident_mib, spread
from kpng.kube.access import AccessOptions
from kpng.load import Churn, Shape
from kpng.load.progress import Tally, told
from kpng.load.run import Loader, LoadOptions, cleanup, with_existing_nodes
from kpng.load.writer import ApiWriter, connect
from kpng.model import UserError

_PROBED = 20
"""So many services have one endpoint, so that it is always the new one that must answer; they take turns."""
_SAMPLES = 20
_COLD_SECONDS = 1800
_PEER_PAUSE = 1.2  # kube-proxy waits a second between two syncs (minSyncPeriod), which is not what is measured


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


class Cluster(NamedTuple):
    """An API server with the objects in it. ``addresses``: of each service, the one that clients use."""

    writer: ApiWriter
    churn: Churn
    addresses: dict[int, str]
    rig: Rig

    @property
    def probed(self) -> range:
        services = self.churn.shape.services
        return range(max(services - _PROBED, 0), services)

    @property
    def samples(self) -> list[int]:
        """Services from all over the cluster."""
        services = self.churn.shape.services
        return [services * number // _SAMPLES for number in range(_SAMPLES)] + [services - 1]


class Proxy(NamedTuple):
    """The processes of a proxy, the one on the node last, and what it costs to have it."""

    processes: tuple[Process, ...]
    pause: float

    @property
    def agent(self) -> Process:
        return self.processes[-1]


Start = Callable[[Cluster, Node], Proxy]


async def measure(cluster: Cluster, start: Start, changes: int) -> Figures:
    """Start a proxy on a node, let the endpoints change, end it."""
    node = cluster.rig.node()
    prober = Prober(node.client)
    try:
        began = time.monotonic()
        proxy = start(cluster, node)
        await _answered(cluster, prober, proxy)
        figures = {"cold_start_s": time.monotonic() - began}
        say(f"{proxy.agent.name}: cold start {figures['cold_start_s']:.2f} s")
        figures |= await _changes(cluster, prober, proxy, changes)
        figures["rss_mib"] = resident_mib(proxy.agent.pid)
        if len(proxy.processes) > 1:
            figures["brain_rss_mib"] = resident_mib(proxy.processes[0].pid)
        figures["cpu_s"] = sum(cpu_seconds(process.pid) for process in proxy.processes)
        for process in reversed(proxy.processes):
            process.end()
        return figures
    finally:
        prober.close()


async def _answered(cluster: Cluster, prober: Prober, proxy: Proxy) -> None:
    """Return when services from all over the cluster are answered."""
    deadline = time.monotonic() + _COLD_SECONDS
    for service in cluster.samples if cluster.churn.shape.endpoints else cluster.probed:
        while not await prober.is_answered(cluster.addresses[service]):
            for process in proxy.processes:
                process.check()
            if time.monotonic() > deadline:
                raise RigError(f"nothing answers after {_COLD_SECONDS} s{proxy.agent.tail()}")


async def _changes(cluster: Cluster, prober: Prober, proxy: Proxy, changes: int) -> Figures:
    answers, writes = [], []
    await asyncio.sleep(max(proxy.pause, 1.0))
    for number in range(changes):
        service = cluster.probed[number % len(cluster.probed)]
        change = cluster.churn.replace(service)
        (pod,) = cluster.churn.pods(service)
        wanted = cluster.churn.shape.pod_address(pod.serial, "IPv4")
        answered = asyncio.ensure_future(prober.first_answer(cluster.addresses[service], wanted))
        await asyncio.sleep(0.01)  # it is already asking, and hears the old endpoint
        sent = time.monotonic()
        for write in change.writes:
            await cluster.writer.write(write)
        writes.append(time.monotonic() - sent)
        answers.append(await answered - sent)
        if number % 25 == 24:
            say(f"{proxy.agent.name}: {number + 1} of {changes} changes, the last in {answers[-1] * 1e3:.1f} ms")
        proxy.agent.check()
        await asyncio.sleep(proxy.pause)
    written = spread("api", writes)
    return {name.removeprefix("_"): value for name, value in (spread("", answers) | written).items()}


# -- the proxies -------------------------------------------------------------------------------------------------


def _node_name(cluster: Cluster) -> str:
    return cluster.churn.shape.site(0).name


def _agent(cluster: Cluster, node: Node) -> Proxy:
    server = ("kube", "--server", f"http://{node.world_address}:{API_PORT}")
    sink = ("to-local", "--node-name", _node_name(cluster), "to-nft")
    process = cluster.rig.process("agent", node.namespace, *KPNG, *server, *sink)
    process.start()
    return Proxy((process,), 0.02)


def _brain_and_agent(cluster: Cluster, node: Node) -> Proxy:
    server = ("kube", "--server", f"http://{node.world_address}:{API_PORT}")
    listen = f"{node.world_address}:{BRAIN_PORT}"
    brain = cluster.rig.process("brain", cluster.rig.world, *KPNG, *server, "to-api", "--listen", f"tcp://{listen}")
    return _with_agent(cluster, node, brain, listen)


def _brain_outside(kubeconfig: str) -> Start:
    def start(cluster: Cluster, node: Node) -> Proxy:
        path = f"unix://{cluster.rig.logs}/brain.sock"
        source = ("kube", "--kubeconfig", kubeconfig, "to-api", "--listen", path)
        return _with_agent(cluster, node, cluster.rig.process("brain", None, *KPNG, *source), path)

    return start


def _with_agent(cluster: Cluster, node: Node, brain: Process, api: str) -> Proxy:
    source = ("local", "--api", api, "to-nft", "--node-name", _node_name(cluster))
    agent = cluster.rig.process("agent", node.namespace, *KPNG, *source)
    brain.start()
    agent.start()
    return Proxy((brain, agent), 0.02)


def _kube_proxy(path: str) -> Start:
    def start(cluster: Cluster, node: Node) -> Proxy:
        given = {
            "master": f"http://{node.world_address}:{API_PORT}",
            "hostname-override": _node_name(cluster),
            "proxy-mode": "nftables",
            "conntrack-max-per-core": "0",
            "conntrack-min": "0",
            "conntrack-tcp-timeout-established": "0",
            "conntrack-tcp-timeout-close-wait": "0",
        }
        flags = [f"--{name}={value}" for name, value in given.items()]
        process = cluster.rig.process("kube-proxy", node.namespace, path, *flags)
        process.start()
        return Proxy((process,), _PEER_PAUSE)

    return start


# -- the cluster -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def embedded(rig: Rig, given: argparse.Namespace) -> AsyncIterator[Cluster]:
    shape = Shape(services=given.services, endpoints=given.endpoints, nodes=given.nodes)
    counts = ("services", "endpoints", "nodes")
    server = rig.api_server("--shape", ",".join(f"{name}={getattr(shape, name)}" for name in counts))
    began = time.monotonic()
    server.start()
    await until(lambda: "serving on" in server.log.read_text(), "listen", server, 300.0)
    say(f"API server: {shape.services} services in {time.monotonic() - began:.1f} s")
    addresses = {service: shape.cluster_ip(service, "IPv4") for service in range(shape.services)}
    async with rig.writer() as writer:
        yield Cluster(writer, Churn(shape), addresses, rig)


@asynccontextmanager
async def real(rig: Rig, given: argparse.Namespace) -> AsyncIterator[Cluster]:
    """A cluster that there is already, for as long as the benchmark takes."""
    shape = Shape(
        services=given.services, endpoints=given.endpoints, nodes=given.nodes, prefix=rig.name, cluster_ips=False
    )
    tally = Tally()
    async with await connect(AccessOptions(given.kubeconfig)) as writer:
        try:
            shape = await with_existing_nodes(writer, shape)
        except UserError:
            say("no Nodes there; making some")
        churn = Churn(shape)
        try:
            async with told(tally):
                await Loader(writer, churn, tally, LoadOptions()).make()
            addresses = {}
            async for service in writer.list("Service", f"app.kubernetes.io/instance={shape.prefix}"):
                number = int(service["metadata"]["name"].rpartition("-")[2])
                addresses[number] = service["spec"]["clusterIP"]
            yield Cluster(writer, churn, addresses, rig)
        finally:
            async with told(tally):
                await cleanup(writer, shape.prefix, tally)


async def run(given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="kpng-bench-") as folder, Rig(Path(folder)) as rig:
        cluster_of = real(rig, given) if given.kubeconfig else embedded(rig, given)
        async with cluster_of as cluster:
            for service in cluster.probed:
                for write in cluster.churn.scale(service, 1 - cluster.churn.shape.endpoints).writes:
                    await cluster.writer.write(write)
            figures = await measure(cluster, _ours(given), given.changes)
            peers = {}
            if given.peer_kube_proxy:
                start = _kube_proxy(given.peer_kube_proxy)
                peers["kube-proxy nftables"] = await measure(cluster, start, given.peer_changes)
    report("end_to_end", given, figures, peers)


def _ours(given: argparse.Namespace) -> Start:
    if given.kubeconfig:
        return _brain_outside(given.kubeconfig)
    return _brain_and_agent if given.brain else _agent


def main() -> None:
    flags = parser(__doc__, services=1000, endpoints=10, nodes=100, changes=200, peer_changes=10)
    flags.add_argument("--brain", action="store_true", help="a brain and an agent, instead of both in one process")
    flags.add_argument(
        "--kubeconfig", default="", metavar="FILE", help="a real API server, instead of the embedded"
    )
    flags.add_argument("--peer-kube-proxy", default="", metavar="PATH", help="measure kube-proxy beside it")
    given = flags.parse_args()
    if given.kubeconfig and given.peer_kube_proxy:
        flags.error("--peer-kube-proxy needs the embedded API server: namespaces do not reach another one")
    run_to_end(run(given))


if __name__ == "__main__":
    main()
