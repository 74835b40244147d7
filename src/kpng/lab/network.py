"""Builds the lab's network. Everything happens inside the lab's own namespaces, nothing in the host's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from .netns import Namespace, run
from .topology import Topology
from .wiring import UPLINK, cables, commands, sysctls


def build(topology: Topology) -> dict[str, Namespace]:
    """Make every machine of the plan and plug them together; returns machine name -> namespace.

    Raises `netns.CommandError`; what was made until then has to be removed by `cleanup.sweep`.
    """
    machines = {machine: Namespace(topology.namespace(machine)) for machine in topology.machines}
    for machine, namespace in machines.items():
        namespace.create()
        namespace.call(partial(_write, sysctls(topology, machine)))
    _plug(topology, machines)
    for machine, namespace in machines.items():
        _batch(namespace, commands(topology, machine))
    return machines


def _plug(topology: Topology, machines: Mapping[str, Namespace]) -> None:
    by_machine: dict[str, list[str]] = {}
    for cable in cables(topology):
        far = machines[cable.far].name
        line = f"link add {cable.interface} type veth peer name {UPLINK} netns {far}"
        by_machine.setdefault(cable.machine, []).append(line)
    for machine, lines in by_machine.items():
        _batch(machines[machine], lines)


def _batch(namespace: Namespace, lines: list[str]) -> None:
    run(["ip", "-n", namespace.name, "-batch", "-"], stdin="\n".join(lines) + "\n")


def _write(settings: Mapping[str, str]) -> None:
    """Set sysctls of the network namespace the calling thread is in."""
    for name, value in settings.items():
        Path("/proc/sys", name).write_text(value)
