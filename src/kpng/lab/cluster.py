"""The running lab: its machines, its processes, and the ways to send traffic and to change objects."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from kpng.model import FAMILIES

from . import manifests, network
from .api import Api
from .netns import Namespace
from .probes import Prober, Target
from .processes import Processes
from .services import HTTP, WEB
from .topology import CLUSTER_CIDRS, CONTROL, FABRIC, PodPlan, Topology
from .traffic import cluster_ip

API_SERVER_PORT = 8080
BRAIN_PORT = 12090
START_SECONDS = 30.0
LEAVING_APP = "shop"  # each of its pods is a process of its own, so that one can end alone


class Cluster:
    """Starts the lab's parts one after the other; each ``start_…`` waits for a real effect of what it started."""

    def __init__(self, topology: Topology, folder: Path) -> None:
        self.topology = topology
        self.folder = folder
        self.machines: dict[str, Namespace] = {}
        self.probers: dict[str, Prober] = {}
        self.processes = Processes(topology.name, folder / "logs")

    @property
    def api(self) -> Api:
        return Api(self.probers[CONTROL], self.topology.control.ipv4, API_SERVER_PORT)

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def build(self) -> None:
        """Make the network and write the manifests."""
        (self.folder / "logs").mkdir(exist_ok=True)
        manifests.write(self.topology, self.folder / "manifests")
        self.machines = network.build(self.topology)
        self.probers = {machine: Prober(namespace) for machine, namespace in self.machines.items()}

    async def start_pods(self) -> None:
        """Start the pods' servers: wait until each answers at its own address."""
        pods = self.topology.pods
        self._serve("pods", tuple(pod for pod in pods if pod.app != LEAVING_APP))
        for pod in self.topology.pods_of(LEAVING_APP):
            self._serve(pod.name, (pod,))
        for pod in pods:
            await self._pod_answers(pod)

    async def start_pod(self, pod: PodPlan) -> None:
        """Start a pod that has ended."""
        self._serve(pod.name, (pod,))
        await self._pod_answers(pod)

    async def start_api_server(self) -> None:
        """Start the API server: wait until it serves the manifests."""
        listen = f"{self.topology.control.ipv4}:{API_SERVER_PORT}"
        options = ("--listen", listen, "--manifests", str(self.folder / "manifests"))
        command = ("kpng.lab.apiserver", *options, "--write-kubeconfig", str(self.kubeconfig))
        self.processes.start("apiserver", self.machines[CONTROL], sys.executable, "-m", *command)
        await self.processes.wait_for("apiserver", "serving the manifests", START_SECONDS, self.api.ready)

    def start_brain(self) -> None:
        """Start the brain; that it works shows in what the agents do."""
        server = f"http://{self.topology.control.ipv4}:{API_SERVER_PORT}"
        arguments = ("kube", "--server", server, "to-api", "--listen", f"tcp://0.0.0.0:{BRAIN_PORT}")
        self._kpng("brain", CONTROL, *arguments)

    async def start_agents(self) -> None:
        """Start an agent on each node: wait until each node forwards, in both families."""
        api = f"{self.topology.control.ipv4}:{BRAIN_PORT}"
        for node in self.topology.nodes:
            source = ("local", "--api", api, "--node-name", node.name)
            self._kpng(node.name, node.name, *source, "to-nft", "--cluster-cidr", ",".join(CLUSTER_CIDRS))
        for node in self.topology.nodes:
            forwards = partial(self._answers, node.name, [cluster_ip(WEB, family=family) for family in FAMILIES])
            await self.processes.wait_for(node.name, "forwarding of cluster IPs", START_SECONDS, forwards)

    def _serve(self, process: str, pods: tuple[PodPlan, ...]) -> None:
        arguments = [f"--pod={pod.name}={self.machines[pod.name].name}" for pod in pods]
        self.processes.start(process, self.machines[FABRIC], sys.executable, "-m", "kpng.lab.pods", *arguments)

    async def _pod_answers(self, pod: PodPlan) -> None:
        process = pod.name if pod.app == LEAVING_APP else "pods"
        answers = partial(
            self._answers, pod.node, [Target("http", address, HTTP) for address in pod.addresses.both]
        )
        await self.processes.wait_for(process, f"an answer of {pod.name}", START_SECONDS, answers)

    async def _answers(self, machine: str, targets: list[Target]) -> bool:
        return all([(await self.probers[machine].send(target, seconds=0.2)).ok for target in targets])

    def _kpng(self, process: str, machine: str, *arguments: str) -> None:
        self.processes.start(process, self.machines[machine], sys.executable, "-m", "kpng", *arguments)

    def close(self) -> None:
        """Let go of the namespaces; processes are not touched."""
        for prober in self.probers.values():
            prober.close()
        self.probers = {}
