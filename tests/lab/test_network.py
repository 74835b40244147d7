"""The network and the pods' servers, with real packets."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kpng.lab.cleanup import namespaces, sweep
from kpng.lab.netns import CommandError, Namespace, run
from kpng.lab.network import build
from kpng.lab.probes import REFUSED, Prober, Reply, Target
from kpng.lab.processes import Processes
from kpng.lab.services import ECHO_TCP, ECHO_UDP, HTTP
from kpng.lab.state import directory
from kpng.lab.topology import CLIENT, CONTROL, FABRIC, Topology, plan

pytestmark = pytest.mark.netns

PORTS = {"http": HTTP, "tcp": ECHO_TCP, "udp": ECHO_UDP}


class Wired:
    """The lab's network with pods' servers, without kpng."""

    def __init__(self, topology: Topology, machines: dict[str, Namespace]) -> None:
        self.topology = topology
        self.machines = machines
        self._probers: dict[str, Prober] = {}

    async def send(self, origin: str, target: Target, seconds: float = 1.0) -> Reply:
        if origin not in self._probers:
            self._probers[origin] = Prober(self.machines[origin])
        return await self._probers[origin].send(target, seconds=seconds)

    def close(self) -> None:
        for prober in self._probers.values():
            prober.close()


@pytest.fixture
async def wired(lab_name: str, tmp_path: Path) -> AsyncIterator[Wired]:
    topology = plan(lab_name)
    machines = build(topology)
    processes = Processes(lab_name, tmp_path)
    pods = [f"--pod={pod.name}={machines[pod.name].name}" for pod in topology.pods]
    lab = Wired(topology, machines)

    async def ready() -> bool:
        return processes.log("pods").read_text().startswith("ready")

    try:
        processes.start("pods", machines[FABRIC], sys.executable, "-m", "kpng.lab.pods", *pods)
        await processes.wait_for("pods", "ready", 10, ready)
        yield lab
        await processes.stop("pods")
    finally:
        lab.close()
        processes.kill()


async def test_pods_reach_each_other_in_every_way(wired: Wired) -> None:
    for origin in ("caller", "web-1", "node2"):
        for pod in wired.topology.pods:
            for address in pod.addresses.both:
                for protocol, port in PORTS.items():
                    reply = await wired.send(origin, Target(protocol, address, port))
                    assert (reply.error, reply.pod) == ("", pod.name), (origin, protocol, address)


async def test_a_pod_sees_who_really_asks(wired: Wired) -> None:
    caller, web = wired.topology.pod("caller"), wired.topology.pod("web-1")
    for sender, address in zip(caller.addresses.both, web.addresses.both, strict=True):
        assert (await wired.send("caller", Target("http", address, HTTP))).client == sender


async def test_the_client_reaches_nodes_but_no_pod(wired: Wired) -> None:
    for node in wired.topology.nodes:
        for address in node.addresses.both:
            assert (await wired.send(CLIENT, Target("tcp", address, 9))).error == REFUSED
    for address in wired.topology.pod("web-1").addresses.both:
        assert not (await wired.send(CLIENT, Target("http", address, HTTP), seconds=0.1)).ok


async def test_the_control_plane_and_the_nodes_reach_each_other(wired: Wired) -> None:
    for node in wired.topology.nodes:
        assert (await wired.send(CONTROL, Target("tcp", node.addresses.ipv4, 9))).error == REFUSED
        assert (await wired.send(node.name, Target("tcp", wired.topology.control.ipv6, 9))).error == REFUSED


def test_building_leaves_the_hosts_own_network_alone(lab_name: str) -> None:
    def host() -> str:
        return "".join(run(["ip", *what]) for what in (["-o", "link"], ["route"], ["-6", "route"], ["address"]))

    links = set(host().splitlines())
    build(plan(lab_name))
    # Other tests of this machine may come and go; nothing of ours may be among what is new.
    assert not [line for line in set(host().splitlines()) - links if "web-" in line or "node" in line]
    assert not Path("/proc/sys/net/ipv4/conf/web-1").exists()


def test_every_namespace_carries_the_labs_name_and_goes_with_it(lab_name: str) -> None:
    topology = plan(lab_name, 2)
    build(topology)
    assert sorted(space.name for space in namespaces(lab_name)) == sorted(
        topology.namespace(machine) for machine in topology.machines
    )
    directory(lab_name).mkdir()
    said = sweep(lab_name)
    assert said == f"ended 0 processes, removed {len(topology.machines)} network namespaces"
    assert namespaces(lab_name) == []


def test_building_twice_fails_with_the_command(lab_name: str) -> None:
    build(plan(lab_name))
    with pytest.raises(CommandError, match="ip netns add"):
        build(plan(lab_name))


def test_a_namespace_that_is_our_own_network_is_never_emptied(lab_name: str) -> None:
    name = f"kpng-{lab_name}-host"
    run(["ip", "netns", "attach", name, str(os.getpid())])
    attached = Namespace(name)
    assert attached.pids() == []
    attached.delete()
    assert not attached.exists()
