"""A service with two pods behind a node, and kpng's programs, in network namespaces."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.request import Request, urlopen

from kpng.lab.netns import Namespace, connect

SERVICE_IP = "10.96.0.10"
PODS = {"pod1": "10.79.2.2", "pod2": "10.79.3.2"}
CONTROL = "10.79.0.1"
API_SERVER = f"{CONTROL}:8001"

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"clusterIP": SERVICE_IP, "ports": [{"port": 80, "targetPort": 8080}]},
}
NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}}


def slice_of(*pods: str) -> dict[str, object]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [PODS[pod]], "conditions": {"ready": True}} for pod in pods],
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
    }


class Rig:
    """control (API server, brains, relays) and node (agent); two pods behind the node answer with their names."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self._stack, self._directory = stack, directory
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self.node = self._namespace("node")
        self.control = self.machine("control", CONTROL)
        for name, address in PODS.items():
            self._answer(self.machine(name, address), name, address)
        # a packet to a cluster IP must have a route before it is translated
        self.node.run("ip", "route", "add", "10.96.0.0/16", "dev", "pod1")
        self._start_api_server()

    def _namespace(self, name: str) -> Namespace:
        return self._stack.enter_context(Namespace(f"kpt-{os.getpid()}-{name}"))

    def machine(self, name: str, address: str) -> Namespace:
        """One more behind the node, in a network of its own."""
        made, gateway = self._namespace(name), f"{address.rpartition('.')[0]}.254"
        connect(made, "eth0", self.node, name)
        made.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
        self.node.run("ip", "addr", "add", f"{gateway}/24", "dev", name)
        made.run("ip", "route", "add", "default", "via", gateway)
        return made

    def _answer(self, pod: Namespace, name: str, address: str) -> None:
        server = pod.call(lambda: socket.create_server((address, 8080), backlog=128))
        self._stack.callback(server.close)
        self._stack.callback(server.shutdown, socket.SHUT_RDWR)
        threading.Thread(target=answer_with_name, args=(server, name), daemon=True).start()

    def _start_api_server(self) -> None:
        manifests = self._directory / "manifests"
        manifests.mkdir()
        items = [SERVICE, NODE, slice_of(*PODS)]
        (manifests / "all.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        arguments = ("--listen", API_SERVER, "--manifests", str(manifests))
        self._start("apiserver", self.control, "kpng.lab.apiserver", *arguments)

    def _start(self, name: str, where: Namespace, *arguments: str) -> None:
        with (self._directory / f"{name}.log").open("a") as log:
            self._processes[name] = where.popen(sys.executable, "-m", *arguments, stderr=log, stdout=log)
        self._stack.callback(self.kill, name)

    def brain(self, name: str, port: int, *options: str) -> None:
        source = ("kpng", "kube", "--server", f"http://{API_SERVER}")
        self._start(name, self.control, *source, "to-api", "--listen", f"tcp://{CONTROL}:{port}", *options)

    def relay(self, name: str, port: int, *parents: int) -> None:
        listen = f"tcp://{CONTROL}:{port}"
        self._start(name, self.control, "kpng", "api", "--api", _at(parents), "to-api", "--listen", listen)

    def agent(self, *ports: int) -> None:
        sink = ("to-nft", "--node-name", "node-a")
        self._start("agent", self.node, "kpng", "local", "--api", _at(ports), *sink)

    def kill(self, name: str) -> None:
        if (process := self._processes.pop(name, None)) is not None:
            process.kill()
            process.wait()

    def log(self, name: str) -> str:
        return (self._directory / f"{name}.log").read_text()

    def connections(self, name: str) -> int:
        """How often it has connected to a server in all its lives."""
        return self.log(name).count("connected to")

    def generation(self) -> int:
        """The generation of the node's ruleset: every transaction, whoever makes it, increases it."""
        return self.node.call(ruleset_generation)

    def put_slice(self, *pods: str) -> None:
        url = f"http://{API_SERVER}/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/web-1"
        body = json.dumps(slice_of(*pods)).encode()
        request = Request(url, body, {"Content-Type": "application/json"}, method="PUT")
        self.control.call(lambda: urlopen(request).read())


def _at(ports: tuple[int, ...]) -> str:
    return ",".join(f"{CONTROL}:{port}" for port in ports)


def ruleset_generation() -> int:
    """Ask the kernel of this network namespace (NFT_MSG_GETGEN), without any code of kpng's."""
    getgen, request, netlink_netfilter = 10 << 8 | 16, 1, 12
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink_netfilter) as netlink:
        netlink.send(struct.pack("=IHHII4x", 20, getgen, request, 1, 0))
        answer = netlink.recv(4096)
    return int(struct.unpack_from(">I", answer, 24)[0])


def answer_with_name(server: socket.socket, name: str) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.sendall(f"{name}\n".encode())


def ask() -> str:
    """The name of the pod that the service leads to this time."""
    with socket.create_connection((SERVICE_IP, 80), timeout=1) as connection:
        return connection.makefile().readline().strip()


def answers(client: Namespace) -> set[str]:
    """Who answers, of ten times; nobody where one of them fails."""
    try:
        return {client.call(ask) for _ in range(10)}
    except OSError:
        return set()


class Load:
    """A connection from the client every 10 ms; each must be answered by a pod's name."""

    def __init__(self, client: Namespace) -> None:
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: client.call(self._run))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            try:
                self.answers.append(ask())
            except OSError as error:
                self.failures.append(f"after {len(self.answers)}: {error}")


def until(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)
