"""How to use a lab that was kept, and what state it is in."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from .cleanup import namespaces, processes
from .services import WEB
from .state import directory, read
from .topology import CLIENT, CONTROL, DEFAULT_NAME, Topology


def instructions(topology: Topology) -> str:
    """Commands to try, as text."""
    inside = {machine: f"ip netns exec {topology.namespace(machine)}" for machine in topology.machines}
    kubeconfig = directory(topology.name) / "kubeconfig"
    kubectl = f"{inside[CONTROL]} {_tool('kubectl')} --kubeconfig {kubeconfig}"
    kpng = _tool("kpng")
    node = topology.nodes[0].name
    return f"""
The lab is left running (state, logs and manifests: {directory(topology.name)}). Try:

  # the cluster, by kubectl
  {kubectl} get services,endpointslices,nodes -o wide
  {kubectl} delete endpointslice shop-ipv4
  {kubectl} apply --server-side -f {directory(topology.name)}/manifests/endpointslices.yaml

  # traffic: from a pod to a cluster IP, from outside to a node port
  {inside["caller"]} curl -s http://{WEB.cluster_ips.ipv4}/
  {inside[CLIENT]} curl -s http://{topology.idle_node.addresses.ipv4}:{WEB.node_port}/

  # what kpng tells a node to do, and what it made of it in the kernel
  {inside[node]} {kpng} local --api {topology.control.ipv4}:12090 --node-name {node} to-print
  {inside[node]} nft list ruleset

  # remove it
  {kpng} lab down{_name_option(topology.name)}"""


def status(name: str) -> str:
    """What there is of a lab now, as text."""
    state, spaces = read(name), namespaces(name)
    if not state and not spaces:
        return f"no lab named {name!r}"
    since = time.strftime("%H:%M:%S", time.localtime(state.started)) if state else "unknown"
    how = "kept running" if state and state.kept else "running or killed"
    lines = [f"lab {name!r}: {how}, started {since}; {len(spaces)} namespaces, {len(processes(name))} processes"]
    lines += [f"  {process:<12} pid {pid}" for process, pid in (state.processes if state else {}).items()]
    return "\n".join(lines)


def _tool(name: str) -> str:
    """A command as it must be typed here: by its path if it was installed beside our Python."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() and shutil.which(name) != str(beside) else name


def _name_option(name: str) -> str:
    return "" if name == DEFAULT_NAME else f" --name {name}"
