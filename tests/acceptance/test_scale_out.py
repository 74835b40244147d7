"""Issue 4, scale out: two brains of one API server, and relays in a tree. What is lost of them is invisible.

The kernel's own word for "invisible": the ruleset's generation (NFT_MSG_GETGEN) stays what it was, while a client
opens a connection through the service every 10 ms, of which none fails.
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
PODS = ("10.79.2.2", "10.79.3.2")
CONTROL = "10.79.0.1"
API_SERVER = f"{CONTROL}:8001"

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
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
    }


def until(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


class Rig:
    """control (API server, brains, relays) and the node (agent, client), with two pods behind the node."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self._stack, self._directory = stack, directory
        made = {
            name: stack.enter_context(Namespace(f"kpt-{os.getpid()}-so-{name}"))
            for name in ("control", "node", "pod1", "pod2")
        }
        self.control, self.node = made["control"], made["node"]
        for third, name in ((0, "control"), (2, "pod1"), (3, "pod2")):
            connect(made[name], "eth0", self.node, name)
            made[name].run("ip", "addr", "add", f"10.79.{third}.{1 if name == 'control' else 2}/24", "dev", "eth0")
            self.node.run("ip", "addr", "add", f"10.79.{third}.254/24", "dev", name)
            made[name].run("ip", "route", "add", "default", "via", f"10.79.{third}.254")
        # a packet to a cluster IP must have a route before it is translated
        self.node.run("ip", "route", "add", "10.96.0.0/16", "dev", "pod1")
        self.processes: dict[str, subprocess.Popen[str]] = {}
        for name, address in zip(("pod1", "pod2"), PODS, strict=True):
            self._answer(made[name], name, address)

    def _answer(self, pod: Namespace, name: str, address: str) -> None:
        server = pod.call(lambda: socket.create_server((address, 8080), backlog=128))
        self._stack.callback(server.close)
        self._stack.callback(server.shutdown, socket.SHUT_RDWR)
        threading.Thread(target=answer_with_name, args=(server, name), daemon=True).start()

    def kpng(self, name: str, *arguments: str, where: Namespace | None = None) -> None:
        with (self._directory / f"{name}.log").open("a") as log:
            process = (where or self.control).popen(sys.executable, "-m", *arguments, stderr=log, stdout=log)
        self.processes[name] = process
        self._stack.callback(self.kill, name)

    def kill(self, name: str) -> None:
        if (process := self.processes.pop(name, None)) is not None:
            process.kill()
            process.wait()

    def log(self, name: str) -> str:
        return (self._directory / f"{name}.log").read_text()

    def generation(self) -> int:
        return self.node.call(ruleset_generation)

    def put_slice(self, *addresses: str) -> None:
        url = f"http://{API_SERVER}/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/web-1"
        body = json.dumps(slice_of(*addresses)).encode()
        request = Request(url, body, {"Content-Type": "application/json"}, method="PUT")
        self.control.call(lambda: urlopen(request).read())

    def answers(self, count: int = 10) -> set[str]:
        try:
            return {self.node.call(ask) for _ in range(count)}
        except OSError:
            return set()


def ruleset_generation() -> int:
    """Ask the kernel of this network namespace (NFT_MSG_GETGEN), without any code of kpng's."""
    getgen, request, netlink_netfilter = 10 << 8 | 16, 1, 12
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink_netfilter) as netlink:
        netlink.send(struct.pack("=IHHII4x", 20, getgen, request, 1, 0))
        answer = netlink.recv(4096)
    return int(struct.unpack_from(">I", answer, 24)[0])


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


class Load:
    """A connection every 10 ms on the node itself."""

    def __init__(self, node: Namespace) -> None:
        self.count = 0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: node.call(self._run))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            try:
                ask()
                self.count += 1
            except OSError as error:
                self.failures.append(f"after {self.count}: {error}")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    items = [SERVICE, NODE, slice_of(*PODS)]
    (manifests / "all.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    with ExitStack() as stack:
        made = Rig(stack, tmp_path)
        made.kpng("apiserver", "kpng.lab.apiserver", "--listen", API_SERVER, "--manifests", str(manifests))
        yield made


def brain(rig: Rig, name: str, port: int, *options: str) -> None:
    source = ("kpng", "kube", "--server", f"http://{API_SERVER}")
    rig.kpng(name, *source, "to-api", "--listen", f"tcp://{CONTROL}:{port}", *options)


def relay(rig: Rig, name: str, port: int, *parents: int) -> None:
    api = ",".join(f"{CONTROL}:{parent}" for parent in parents)
    rig.kpng(name, "kpng", "api", "--api", api, "to-api", "--listen", f"tcp://{CONTROL}:{port}")


def agent(rig: Rig, *ports: int) -> None:
    api = ",".join(f"{CONTROL}:{port}" for port in ports)
    rig.kpng("agent", "kpng", "local", "--api", api, "to-nft", "--node-name", "node-a", where=rig.node)


def used_by(rig: Rig, who: str, ports: dict[str, int]) -> str:
    """Which of the servers it connected to last, by its own log."""
    log = rig.log(who)
    return max(ports, key=lambda name: log.rfind(f"connected to tcp://{CONTROL}:{ports[name]}"))


def test_the_loss_of_a_brain_is_invisible(rig: Rig) -> None:
    ports = {"brain-a": 12090, "brain-b": 12091}
    for name, port in ports.items():
        brain(rig, name, port)
    agent(rig, *ports.values())
    until(lambda: rig.answers() == {"pod1", "pod2"}, "the service answers")
    with Load(rig.node) as load:
        for _ in range(2):
            used = used_by(rig, "agent", ports)
            (other,) = set(ports) - {used}
            before, connections = rig.generation(), rig.log("agent").count("connected to")
            rig.kill(used)
            until(lambda n=connections: rig.log("agent").count("connected to") > n, "the agent is elsewhere")  # type: ignore[misc]
            time.sleep(1)
            assert rig.generation() == before, "nothing changed, but the kernel was written to"
            assert used_by(rig, "agent", ports) == other
            rig.put_slice(PODS[0])
            until(lambda: rig.answers() == {"pod1"}, "the next change comes through the other one")
            rig.put_slice(*PODS)
            until(lambda: rig.answers() == {"pod1", "pod2"}, "and the one after it")
            started = rig.log(used).count("serving on")
            brain(rig, used, ports[used])
            until(lambda name=used, n=started: rig.log(name).count("serving on") > n, "it is back")  # type: ignore[misc]
            time.sleep(1)
    assert load.failures == []
    assert load.count > 200


def test_old_connections_move_and_the_kernel_hears_nothing_of_it(rig: Rig) -> None:
    for name, port in {"brain-a": 12090, "brain-b": 12091}.items():
        brain(rig, name, port, "--max-connection-age", "300ms")
    agent(rig, 12090, 12091)
    until(lambda: rig.answers() == {"pod1", "pod2"}, "the service answers")
    before = rig.generation()
    until(lambda: rig.log("agent").count("moved from") >= 10, "it moves again and again")
    assert rig.generation() == before
    assert "lost" not in rig.log("agent")
    rig.put_slice(PODS[1])
    until(lambda: rig.answers() == {"pod2"}, "changes still arrive")


def test_relays_in_a_tree(rig: Rig) -> None:
    """brain -> two relays -> a relay -> agent."""
    brain(rig, "brain", 12090)
    middle = {"relay-a": 12091, "relay-b": 12092}
    for name, port in middle.items():
        relay(rig, name, port, 12090)
    relay(rig, "leaf", 12093, *middle.values())
    agent(rig, 12093)
    until(lambda: rig.answers() == {"pod1", "pod2"}, "the leaf tells what the brain knows")
    rig.put_slice(PODS[0])
    until(lambda: rig.answers() == {"pod1"}, "a change comes through the tree")

    used, before = used_by(rig, "leaf", middle), rig.generation()
    connections = rig.log("leaf").count("connected to")
    rig.kill(used)
    until(lambda: rig.log("leaf").count("connected to") > connections, "the leaf has another parent")
    time.sleep(1)
    assert rig.generation() == before
    rig.put_slice(PODS[1])
    until(lambda: rig.answers() == {"pod2"}, "changes come by the other relay")

    before = rig.generation()
    (last,) = set(middle) - {used}
    rig.kill(last)
    rig.kill("brain")
    rig.kill("agent")
    connections = rig.log("agent").count("connected to")
    agent(rig, 12093)  # asks a relay that has lost its parents, and gets what it had
    until(lambda: rig.log("agent").count("connected to") > connections, "the agent is back")
    time.sleep(1)
    assert rig.answers() == {"pod2"}
    assert rig.generation() == before
    brain(rig, "brain", 12090)
    relay(rig, last, middle[last], 12090)
    rig.put_slice(*PODS)
    until(lambda: rig.answers() == {"pod1", "pod2"}, "the tree has grown together again")
