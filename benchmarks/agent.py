"""One node's agent: from a watch event to the commit in the kernel, at the start, at changes, at a restart.

    python -m benchmarks.agent --services 10000 --endpoints 10 --json FILE
    python -m benchmarks.agent --sweep 1000,5000,10000,20000,44000 --json FILE

Needs root; works in a network namespace of its own. Beside it a ruleset in kube-proxy's layout is loaded by
``nft -f`` (`benchmarks.kube_proxy_layout`), whose cost grows with the square of the number of services: so with
``--peer-services``, fewer. ``--rate`` and ``--seconds`` are of endpoints that change all the time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import kube_proxy_layout
from benchmarks.agent_rig import Agent, InitialLists, running
from benchmarks.harness import Figures, cpu_seconds, parser, report, resident_mib, run_inside, spread, stoppable
from kpng.cli.running import GC_THRESHOLDS
from kpng.lab.netns import Namespace
from kpng.load import Change, Churn, Shape, endpoint_slices

_BETWEEN_SECONDS = 0.01
"""From one single change to the next: a cluster at rest."""
_SWEPT = ("cold_start_s", "change_p50_ms", "change_p99_ms", "rss_mib")
_ROLLED = 1000
"""Endpoints of the rolling update."""


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


async def measure(shape: Shape, given: argparse.Namespace) -> Figures:
    """All phases over one cluster: an agent from its start on, then another one over what the first has left."""
    gc.set_threshold(*GC_THRESHOLDS)
    churn = Churn(shape)
    with tempfile.TemporaryDirectory() as directory:
        figures = await _first_agent(churn, given, Path(directory))
        gc.collect()
        if not given.brief:
            figures |= await _restart(shape, churn, Path(directory))
    return figures


async def _first_agent(churn: Churn, given: argparse.Namespace, directory: Path) -> Figures:
    lists = InitialLists(churn.shape, endpoint_slices(churn.shape), directory)
    async with running(churn.shape) as agent:
        figures = await _cold_start(agent, lists)
        figures |= await _single(agent, churn, given.changes)
        if not given.brief:
            figures |= await _rolling(agent, churn)
            figures |= await _steady(agent, churn, given.rate, given.seconds)
    return figures


async def _cold_start(agent: Agent, lists: InitialLists) -> Figures:
    say("cold start")
    before, start = cpu_seconds(), time.perf_counter()
    await agent.load(lists)
    seconds = time.perf_counter() - start
    clock = agent.backend.clock
    return {
        "cold_start_s": seconds,
        "cold_start_cpu_s": cpu_seconds() - before,
        "cold_start_kernel_s": clock.seconds,
        "cold_start_commits": float(clock.commits),
        "cold_start_mb": clock.bytes / 1e6,
        "rss_mib": resident_mib(),
    }


async def _single(agent: Agent, churn: Churn, times: int) -> Figures:
    """One endpoint replaced; one or some more or fewer; each with nothing else going on."""
    say("single changes")
    services = random.Random(1).sample(range(churn.shape.services), min(2 * times, churn.shape.services))
    figures = await _changes(agent, (churn.replace(n) for n in services[::2]), "change")
    return figures | await _changes(
        agent, (churn.scale(n, _step(k)) for k, n in enumerate(services[1::2])), "scale"
    )


def _step(number: int) -> int:
    return (-1, 1, 2, -2)[number % 4]


async def _changes(agent: Agent, changes: Iterator[Change], name: str) -> Figures:
    clock, seconds, kernel = agent.backend.clock, [], []
    for change in changes:
        await asyncio.sleep(_BETWEEN_SECONDS)
        before = clock.seconds
        for heard in agent.lines([change]):
            seconds.append(await agent.seconds(*heard))
        kernel.append(clock.seconds - before)
    return spread(name, seconds) | spread(f"{name}_kernel", kernel)


async def _rolling(agent: Agent, churn: Churn) -> Figures:
    """A thousand pods get a successor each, as fast as the agent takes it in."""
    say(f"rolling update of {_ROLLED} endpoints")
    services = range(min(-(-_ROLLED // max(churn.shape.endpoints, 1)), churn.shape.services))
    stories = [churn.roll_out(service) for service in services]
    heard = agent.lines(change for step in zip(*stories, strict=False) for change in step)
    last = agent.lines([churn.replace(churn.shape.services - 1)])
    clock = agent.backend.clock
    commits, size, before, start = clock.commits, clock.bytes, cpu_seconds(), time.perf_counter()
    for _, lines in heard:
        agent.tell(lines)
        await asyncio.sleep(0)
    await agent.seconds(*last[0])  # changes are committed in order
    seconds = time.perf_counter() - start
    return {
        "rolling_s": seconds,
        "rolling_cpu_s": cpu_seconds() - before,
        "rolling_events": float(len(heard)),
        "rolling_commits": float(clock.commits - commits),
        "rolling_mb": (clock.bytes - size) / 1e6,
    }


async def _steady(agent: Agent, churn: Churn, rate: int, seconds: int) -> Figures:
    """Endpoints replaced at an even rate."""
    if not rate or not seconds:
        return {}
    say(f"{rate} changes/s for {seconds} s")
    services = [n % churn.shape.services for n in range(rate * seconds)]
    random.Random(2).shuffle(services)
    heard = agent.lines(churn.replace(service) for service in services)
    commits, before, start = agent.backend.clock.commits, cpu_seconds(), time.perf_counter()
    for number, each in enumerate(heard):
        await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
        agent.hear(*each)
    await agent.backend.settled()
    took = time.perf_counter() - start
    used, delays = cpu_seconds() - before, agent.backend.delays
    figures = spread("churn", delays) | {
        "churn_max_ms": max(delays) * 1e3,
        "churn_cpu_percent": used / took * 100,
        "churn_commits_per_s": (agent.backend.clock.commits - commits) / took,
        "churn_rss_mib": resident_mib(),
    }
    delays.clear()
    return figures


async def _restart(shape: Shape, churn: Churn, directory: Path) -> Figures:
    """Start again over what is there: nothing may be written."""
    say("restart")
    lists = InitialLists(shape, churn.endpoint_slices(), directory)
    async with running(shape) as agent:
        before = agent.backend.connection.generation()
        used, start = cpu_seconds(), time.perf_counter()
        await agent.load(lists)
        seconds, used = time.perf_counter() - start, cpu_seconds() - used
        written = agent.backend.connection.generation() - before
        start = time.perf_counter()
        await agent.backend.check()  # before its task has had a turn
        return {
            "restart_s": seconds,
            "restart_cpu_s": used,
            "restart_writes": float(written),
            "verification_s": time.perf_counter() - start,
        }


def measure_inside(shape: Shape, given: argparse.Namespace) -> Figures:
    with Namespace(f"kpt-bench-{os.getpid()}") as namespace, namespace.executor() as inside:
        return run_inside(inside, measure(shape, given))


def measure_beside(services: int, given: argparse.Namespace) -> Figures:
    """Cold start and single changes at another size, in a process of its own: memory must not add up."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "figures.json"
        numbers = ("--services", services, "--endpoints", given.endpoints, "--changes", given.changes)
        command = [*map(str, numbers), "--brief", "--peer-services", "0", "--json", str(path)]
        _run([sys.executable, "-m", "benchmarks.agent", *command])
        figures: Figures = json.loads(path.read_text())["figures"]
        return figures


def _run(command: list[str]) -> None:
    with subprocess.Popen(command, stdout=sys.stderr) as process:
        try:
            process.wait()
        except KeyboardInterrupt:
            process.terminate()  # and wait, so that it takes its namespace with it
            raise
    if process.returncode:
        sys.exit(f"{command[2]} failed")


def sweep(given: argparse.Namespace) -> Figures:
    figures: Figures = {}
    for services in given.sweep:
        say(f"{services} services")
        found = measure_beside(services, given)
        figures |= {f"{name}_{services}": found[name] for name in _SWEPT}
    return figures


def beside_peers(given: argparse.Namespace) -> tuple[Figures, dict[str, Figures]]:
    """kpng, and a ruleset in each of kube-proxy's layouts, all at the peers' size."""
    if not given.peer_services:
        return {}, {}
    say(f"kpng, {given.peer_services} services")
    ours = measure_beside(given.peer_services, given)
    shape = Shape(services=given.peer_services, endpoints=given.endpoints)
    found = {}
    for name, layout in kube_proxy_layout.LAYOUTS.items():
        say(f"kube-proxy's layout ({name}), {given.peer_services} services")
        with Namespace(f"kpt-bench-{os.getpid()}") as namespace:
            found[f"layout {name}"] = _at_peers_size(kube_proxy_layout.measure(namespace, layout, shape))
    return _at_peers_size(ours), found


def _at_peers_size(figures: Figures) -> Figures:
    return {f"peers_size_{name}": figures[name] for name in ("cold_start_s", "change_p50_ms")}


def arguments() -> argparse.ArgumentParser:
    flags = parser(__doc__, services=10_000, endpoints=10, changes=200, rate=100, seconds=60, peer_services=2000)
    flags.add_argument("--brief", action="store_true", help="only the cold start and single changes")
    flags.add_argument(
        "--sweep",
        type=lambda text: [int(number) for number in text.split(",")],
        default=[],
        metavar="N,N",
        help="instead, cold start and single changes with so many services each",
    )
    return flags


def main() -> None:
    given = arguments().parse_args()
    with stoppable():
        if given.sweep:
            report("agent-sweep", given, sweep(given))
        else:
            figures = measure_inside(Shape(services=given.services, endpoints=given.endpoints), given)
            ours, peers = beside_peers(given)
            report("agent", given, figures | ours, peers)


if __name__ == "__main__":
    main()
