"""``kpng lab``: build, start, send traffic, report, remove."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from kpng.model import UserError

from . import live, traffic
from .cleanup import check_root, namespaces, sweep
from .cluster import Cluster
from .instructions import instructions
from .netns import CommandError
from .outcome import Outcome
from .processes import LabError
from .report import as_json, table
from .state import State, directory, lock, read
from .topology import DEFAULT_NAME, MAX_NODES, Topology, plan

RUN_SECONDS = 180.0
"""The limit of the whole run, which takes about ten seconds on an idle machine."""

TOOLS = {"ip": "iproute2", "nft": "nftables"}


@dataclass(frozen=True, slots=True)
class LabOptions:
    """What ``kpng lab`` is asked for. ``output`` is "table" or "json"; ``keep`` leaves the lab running."""

    name: str = DEFAULT_NAME
    nodes: int = MAX_NODES
    keep: bool = False
    output: str = "table"


async def run_lab(options: LabOptions) -> int:
    """Run the whole demo. Returns 0 if everything was as it should be, else 1.

    Raises `UserError` for what the user can mend. However it ends, only a lab to be kept is left behind.
    """
    topology = plan(options.name, options.nodes)
    _check_machine()
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {text}", file=sys.stderr, flush=True)

    with lock(options.name):
        _remove_remains(options.name, say)
        keep = False
        try:
            async with asyncio.timeout(RUN_SECONDS):
                outcomes = await _run(topology, options, say)
            keep = options.keep
            _print(outcomes, options, time.monotonic() - started)
            return 0 if all(outcome.passed for outcome in outcomes) else 1
        except (LabError, CommandError, TimeoutError) as error:
            print(f"kpng lab: {str(error) or f'not done within {RUN_SECONDS:g} s'}", file=sys.stderr, flush=True)
            return 1
        finally:
            if keep:
                print(instructions(topology), file=sys.stderr, flush=True)
            else:
                sweep(options.name)
                shutil.rmtree(directory(options.name))


async def _run(topology: Topology, options: LabOptions, say: Callable[[str], None]) -> list[Outcome]:
    cluster = Cluster(topology, directory(options.name))
    state = State(os.getpid(), time.time(), options.nodes)
    state.write(options.name)
    try:
        await _start(cluster, say)
        outcomes = [outcome async for outcome in _send(cluster, say)]
        cluster.processes.check()
        if options.keep:
            state.kept, state.processes = True, cluster.processes.pids()
            state.write(options.name)
            cluster.processes.leave()
        return outcomes
    finally:
        cluster.close()
        cluster.processes.kill()


async def _start(cluster: Cluster, say: Callable[[str], None]) -> None:
    cluster.build()
    topology = cluster.topology
    say(f"network: {len(topology.nodes)} nodes, {len(topology.pods)} pods, control plane, client outside")
    cluster.start_brain()
    await cluster.start_api_server()
    say(f"API server: http://{topology.control.ipv4}:8080, filled with the example manifests")
    await cluster.start_pods()
    say("pods: every server answers at its pod's addresses")
    await cluster.start_agents()
    say("kpng: brain and agents run, every node forwards")


async def _send(cluster: Cluster, say: Callable[[str], None]) -> AsyncIterator[Outcome]:
    say("sending traffic")
    for scenario in traffic.scenarios(cluster.topology):
        cluster.processes.check()
        yield await traffic.send(scenario, cluster.probers)
    say("changing the cluster under traffic")
    async for outcome in live.scenarios(cluster):
        cluster.processes.check()
        yield outcome


def _print(outcomes: list[Outcome], options: LabOptions, seconds: float) -> None:
    print((as_json if options.output == "json" else table)(outcomes, seconds), flush=True)


def _check_machine() -> None:
    check_root()
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise UserError(f"the lab needs the command {tool!r}: install it with 'apt-get install {package}'")


def _remove_remains(name: str, say: Callable[[str], None]) -> None:
    """Remove what a killed lab left. Raises `UserError` if what is there was left on purpose."""
    state = read(name)
    if state and state.kept and namespaces(name):
        raise UserError(
            f"a lab named {name!r} is kept running; remove it with 'kpng lab down --name {name}', "
            "or start another with --name"
        )
    if state or namespaces(name):
        say(f"remains of a killed lab: {sweep(name)}")
