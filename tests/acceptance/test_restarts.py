"""Acceptance 3: brain -> relay -> agent; each is killed and started again under load.

A client opens a connection through the service every 10 ms: none may fail. And where nothing changed, a
restart must not write to the kernel: the ruleset's generation (NFT_MSG_GETGEN) stays what it was.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from kpng.lab.netns import Namespace, connect

pytestmark = [pytest.mark.netns, pytest.mark.slow]

SERVICE_IP = "10.96.0.10"
POD_IPS = ("10.78.3.2", "10.78.4.2")
API_SERVER = "10.78.0.1:8001"
BRAIN = "10.78.0.1:12090"
RELAY = "10.78.0.1:12091"

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"clusterIP": SERVICE_IP, "ports": [{"port": 80, "targetPort": 8080}]},
}
NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}}


def slice_of(*addresses: str) -> dict[str, object]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "web-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [a], "conditions": {"ready": True}} for a in addresses],
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
    }


class Machines:
    """control (API server, brain, relay), node (agent), client and two pods, each a namespace behind the node."""

    def __init__(self, stack: ExitStack) -> None:
        names = ("control", "node", "client", "pod1", "pod2")
        made = {name: stack.enter_context(Namespace(f"kpt-{os.getpid()}-{name}")) for name in names}
        self.control, self.node, self.client = made["control"], made["node"], made["client"]
        self.pods = (made["pod1"], made["pod2"])
        for third, name in ((0, "control"), (2, "client"), (3, "pod1"), (4, "pod2")):
            far = made[name]
            connect(far, "eth0", self.node, name)
            far.run("ip", "addr", "add", f"10.78.{third}.{1 if name == 'control' else 2}/24", "dev", "eth0")
            self.node.run("ip", "addr", "add", f"10.78.{third}.254/24", "dev", name)
            far.run("ip", "route", "add", "default", "via", f"10.78.{third}.254")
        self.node.run("sysctl", "-qw", "net.ipv4.ip_forward=1")

    def generation(self) -> int:
        """The generation of the node's ruleset: every transaction, whoever makes it, increases it."""
        return self.node.call(ruleset_generation)


def ruleset_generation() -> int:
    """Ask the kernel of this network namespace (NFT_MSG_GETGEN), without any code of kpng's."""
    getgen, request, netlink_netfilter = 10 << 8 | 16, 1, 12
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink_netfilter) as netlink:
        netlink.send(struct.pack("=IHHII4x", 20, getgen, request, 1, 0))
        answer = netlink.recv(4096)
    return int(struct.unpack_from(">I", answer, 24)[0])


class Program:
    """One kpng process that can be killed and started again."""

    def __init__(self, where: Namespace, log: Path, *arguments: str) -> None:
        self._where, self._arguments, self._log = where, arguments, log
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with self._log.open("a") as log:
            self.process = self._where.popen(sys.executable, "-m", *self._arguments, stderr=log, stdout=log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def said(self, text: str) -> int:
        return self._log.read_text().count(text) if self._log.exists() else 0


class Load:
    """A connection every 10 ms from the client's namespace; each must be answered by a pod's name."""

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


def ask() -> str:
    with socket.create_connection((SERVICE_IP, 80), timeout=1) as connection:
        return connection.makefile().readline().strip()


def answer_with_name(server: socket.socket, name: str) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.sendall(f"{name}\n".encode())


def until(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


@pytest.fixture
def machines() -> Iterator[Machines]:
    with ExitStack() as stack:
        made = Machines(stack)
        for pod, name, address in zip(made.pods, ("pod1", "pod2"), POD_IPS, strict=True):
            server = pod.call(lambda a=address: socket.create_server((a, 8080), backlog=128))  # type: ignore[misc]
            stack.callback(server.close)
            stack.callback(server.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=answer_with_name, args=(server, name), daemon=True).start()
        yield made


@pytest.fixture
def programs(machines: Machines, tmp_path: Path) -> Iterator[dict[str, Program]]:
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    items = [SERVICE, NODE, slice_of(*POD_IPS)]
    (manifests / "all.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    control, node = machines.control, machines.node
    started = {
        "apiserver": Program(
            control, tmp_path / "apiserver.log",
            "kpng.lab.apiserver", "--listen", API_SERVER, "--manifests", str(manifests),
        ),
        "brain": Program(
            control, tmp_path / "brain.log",
            "kpng", "kube", "--server", f"http://{API_SERVER}", "to-api", "--listen", f"tcp://{BRAIN}",
        ),
        "relay": Program(
            control, tmp_path / "relay.log",
            "kpng", "api", "--api", BRAIN, "to-api", "--listen", f"tcp://{RELAY}",
        ),
        "agent": Program(
            node, tmp_path / "agent.log",
            "kpng", "local", "--api", RELAY, "to-nft", "--node-name", "node-a",
        ),
    }  # fmt: skip
    with ExitStack() as stack:
        for program in started.values():
            stack.callback(program.kill)
            program.start()
        yield started


def works(machines: Machines) -> bool:
    try:
        return bool(machines.client.call(ask))
    except OSError:
        return False


def put_slice(machines: Machines, *addresses: str) -> None:
    url = f"http://{API_SERVER}/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/web-1"
    body = json.dumps(slice_of(*addresses)).encode()
    request = Request(url, body, {"Content-Type": "application/json"}, method="PUT")
    machines.control.call(lambda: urlopen(request).read())


def test_kill_and_restart_each_under_load(machines: Machines, programs: dict[str, Program]) -> None:
    until(lambda: works(machines), "the service answers")
    before = machines.generation()
    with Load(machines.client) as load:
        for name, connected in (("brain", "relay"), ("relay", "agent"), ("agent", "agent")):
            connections = programs[connected].said("connected")
            programs[name].kill()
            time.sleep(1)
            programs[name].start()
            until(
                lambda who=connected, count=connections: programs[who].said("connected") > count,  # type: ignore[misc]
                f"{connected} connected again after {name} was killed",
            )
            time.sleep(1)
            assert machines.generation() == before, f"a kernel write when {name} came back with nothing changed"
    assert load.failures == []
    assert len(load.answers) > 300
    assert set(load.answers) == {"pod1", "pod2"}


def test_a_change_still_arrives_after_all_restarts(machines: Machines, programs: dict[str, Program]) -> None:
    until(lambda: works(machines), "the service answers")
    for name in ("brain", "relay", "agent"):
        programs[name].kill()
        programs[name].start()
    put_slice(machines, POD_IPS[1])
    until(lambda: {machines.client.call(ask) for _ in range(20)} == {"pod2"}, "only pod2 answers")


def test_an_agent_that_missed_a_change_catches_up(machines: Machines, programs: dict[str, Program]) -> None:
    until(lambda: works(machines), "the service answers")
    programs["agent"].kill()
    put_slice(machines, POD_IPS[0])
    programs["agent"].start()
    until(lambda: {machines.client.call(ask) for _ in range(10)} == {"pod1"}, "only pod1 answers")
