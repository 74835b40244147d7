"""``kpng proxy`` as it is run: against an API server, in a network namespace that stands for a machine."""

from __future__ import annotations

import copy
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kpng.lab.netns import Namespace

pytestmark = [pytest.mark.netns, pytest.mark.slow]

API_SERVER = "127.0.0.1:8001"
NODE_IP, OTHER_IP = "192.0.2.10", "192.0.2.11"
CHECK_PORT = 32100
KPNG = [sys.executable, "-m", "kpng"]

NODE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "node-a"},
    "spec": {"podCIDRs": ["10.244.0.0/24"]},
    "status": {"addresses": [{"type": "InternalIP", "address": NODE_IP}]},
}
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"namespace": "demo", "name": "web"},
    "spec": {
        "type": "LoadBalancer",
        "clusterIP": "10.96.0.20",
        "clusterIPs": ["10.96.0.20"],
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": CHECK_PORT,
        "ports": [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080}],
    },
}
SLICE: dict[str, Any] = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"namespace": "demo", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "endpoints": [
        {"addresses": ["10.244.0.5"], "conditions": {"ready": True}, "nodeName": "node-a"},
        {"addresses": ["10.244.1.5"], "conditions": {"ready": True}, "nodeName": "node-b"},
    ],
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
}


class Machine:
    """A namespace with an API server in it."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self.namespace = namespace
        self.folder = folder
        self.log = folder / "proxy.log"

    def start(self, *words: str) -> subprocess.Popen[str]:
        """``kpng proxy``; what it says goes to `log`."""
        with self.log.open("w") as log:
            return self.namespace.popen(*KPNG, "proxy", f"--master=http://{API_SERVER}", *words, stderr=log)

    def request(
        self, method: str, host: str, port: int, path: str, body: Any = None
    ) -> tuple[int, str, dict[str, str]]:
        def ask() -> tuple[int, str, dict[str, str]]:
            connection = http.client.HTTPConnection(host, port, timeout=5)
            kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
            content = json.dumps(body) if body is not None else None
            connection.request(method, path, content, {"Content-Type": kind})
            response = connection.getresponse()
            text = response.read().decode()
            connection.close()
            return response.status, text, dict(response.headers)

        return self.namespace.call(ask)

    def get(self, host: str, port: int, path: str) -> tuple[int, str]:
        """(0, "") where nobody answers."""
        try:
            return self.request("GET", host, port, path)[:2]
        except OSError:
            return 0, ""

    def change(self, method: str, path: str, body: Any = None) -> None:
        status, text, _ = self.request(method, "127.0.0.1", 8001, path, body)
        assert status < 300, text

    def until(self, what: Callable[[], bool], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def until_said(self, text: str) -> None:
        self.until(lambda: text in self.log.read_text())

    def tables(self) -> list[str]:
        return [line.removeprefix("table ") for line in self.namespace.run("nft", "list", "tables").splitlines()]


def manifests(folder: Path, *objects: dict[str, Any]) -> Path:
    path = folder / "objects.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
    return path


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Namespace(f"kpt-proxy-{os.getpid()}") as namespace:
        namespace.run("ip", "addr", "add", f"{NODE_IP}/32", "dev", "lo")
        loaded = manifests(tmp_path, NODE, SERVICE, SLICE)
        server = namespace.popen(
            sys.executable, "-m", "kpng.lab.apiserver", "--listen", API_SERVER, "--manifests", str(loaded),
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            made = Machine(namespace, tmp_path)
            made.log.touch()
            made.until(lambda: made.get("127.0.0.1", 8001, "/api/v1/nodes")[0] == 200)
            yield made
        finally:
            server.kill()
            server.wait()


@pytest.fixture
def started(machine: Machine) -> Iterator[subprocess.Popen[str]]:
    machine.namespace.run("nft", "add", "table", "ip", "kube-proxy")
    machine.namespace.run("nft", "add", "table", "ip6", "kube-proxy")
    process = machine.start("--hostname-override= NODE-A ", "--cluster-cidr=10.244.0.0/16", "--oom-score-adj=500")
    try:
        machine.until_said("removed kube-proxy's table ip6 kube-proxy")
        yield process
    finally:
        process.kill()
        process.wait()


def test_in_place_of_kube_proxy(machine: Machine, started: subprocess.Popen[str]) -> None:
    """K1, R1, X14, L, M, N1: one start, everything that is to be seen from outside."""
    assert sorted(machine.tables()) == ["ip kpng", "ip6 kpng"]
    assert "10.96.0.20" in machine.namespace.run("nft", "list", "table", "ip", "kpng")

    machine.until(lambda: machine.get("127.0.0.1", 10256, "/healthz")[0] == 200)
    assert json.loads(machine.get("127.0.0.1", 10256, "/healthz")[1])["nodeEligible"] is True
    assert machine.get("127.0.0.1", 10256, "/livez")[0] == 200
    assert machine.get("127.0.0.1", 10256, "/else")[0] == 404
    assert machine.get("127.0.0.1", 10249, "/proxyMode") == (200, "nftables")

    machine.until(lambda: machine.get(NODE_IP, CHECK_PORT, "/any")[0] == 200)
    status, body, headers = machine.request("POST", NODE_IP, CHECK_PORT, "/any")
    assert (status, json.loads(body)["localEndpoints"]) == (200, 1)
    assert headers["X-Load-Balancing-Endpoint-Weight"] == "1"
    assert machine.get("127.0.0.1", CHECK_PORT, "/")[0] == 0, "only at the Node's own addresses (H2)"
    assert Path(f"/proc/{started.pid}/oom_score_adj").read_text().strip() == "500"

    started.send_signal(signal.SIGTERM)
    assert started.wait(timeout=10) == 0
    assert sorted(machine.tables()) == ["ip kpng", "ip6 kpng"], "on exit the rules stay"


@pytest.mark.usefixtures("started")
def test_health_follows_what_happens(machine: Machine) -> None:
    """K6, L6, L7."""
    machine.until(lambda: machine.get(NODE_IP, CHECK_PORT, "/")[0] == 200)
    machine.until(lambda: machine.get("127.0.0.1", 10256, "/healthz")[0] == 200)

    taint = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}
    machine.change("PATCH", "/api/v1/nodes/node-a", {"spec": {"taints": [taint]}})
    machine.until(lambda: machine.get("127.0.0.1", 10256, "/healthz")[0] == 503)
    assert machine.get("127.0.0.1", 10256, "/livez")[0] == 200
    assert machine.get(NODE_IP, CHECK_PORT, "/")[0] == 200, "X19: as kube-proxy"
    machine.change("PATCH", "/api/v1/nodes/node-a", {"spec": {"taints": []}})
    machine.until(lambda: machine.get("127.0.0.1", 10256, "/healthz")[0] == 200)

    slices = "/apis/discovery.k8s.io/v1/namespaces/demo/endpointslices/web-1"
    gone = copy.deepcopy(SLICE["endpoints"])
    gone[0]["conditions"] = {"ready": False, "serving": True, "terminating": True}
    machine.change("PATCH", slices, {"endpoints": gone})
    machine.until(lambda: machine.get(NODE_IP, CHECK_PORT, "/")[0] == 503)
    assert json.loads(machine.get(NODE_IP, CHECK_PORT, "/")[1])["localEndpoints"] == 0

    machine.change("DELETE", "/api/v1/namespaces/demo/services/web")
    machine.until(lambda: machine.get(NODE_IP, CHECK_PORT, "/")[0] == 0)


def test_x6_an_address_that_comes_later_is_served(machine: Machine) -> None:
    process = machine.start("--hostname-override=node-a", "--nodeport-addresses=192.0.2.0/24", "--healthz-port=0")
    try:
        machine.until(lambda: machine.get(NODE_IP, CHECK_PORT, "/")[0] == 200)
        machine.namespace.run("ip", "addr", "add", f"{OTHER_IP}/32", "dev", "lo")
        machine.until(lambda: machine.get(OTHER_IP, CHECK_PORT, "/")[0] == 200)
        machine.namespace.run("ip", "addr", "del", f"{OTHER_IP}/32", "dev", "lo")
        machine.until(lambda: machine.get(OTHER_IP, CHECK_PORT, "/")[0] == 0)
        assert machine.get(NODE_IP, CHECK_PORT, "/")[0] == 200, "X3: also without /healthz"
        assert machine.get("127.0.0.1", 10256, "/healthz")[0] == 0
    finally:
        process.kill()
        process.wait()


def test_u3_a_changed_file_ends_it(machine: Machine) -> None:
    config = machine.folder / "config.conf"
    text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nhostnameOverride: node-a\n"
    config.write_text(text)
    process = machine.start(f"--config={config}")
    try:
        machine.until(lambda: machine.get("127.0.0.1", 10256, "/livez")[0] == 200)
        config.write_text(text + "mode: nftables\n")
        assert process.wait(timeout=20) == 1
        assert "has changed; ending" in machine.log.read_text()
    finally:
        process.kill()
        process.wait()


def test_p5_init_only(machine: Machine) -> None:
    """In a namespace of its own the size of the table cannot be set: it is said, and the exit code tells."""
    words = ["--hostname-override=node-a", "--init-only", "--conntrack-tcp-timeout-established=1h1m"]
    assert machine.start(*words, "--conntrack-max-per-core=0").wait(timeout=60) == 0, machine.log.read_text()
    timeout = machine.namespace.run("cat", "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established")
    assert timeout.strip() == "3660"
    assert "--init-only was given" in machine.log.read_text()
    assert machine.tables() == []
    assert machine.start(*words, "--conntrack-min=999999999").wait(timeout=60) == 1
    assert "cannot set net.netfilter.nf_conntrack_max to 999999999: " in machine.log.read_text()


def test_r1_cleanup(machine: Machine) -> None:
    for table in ("ip kube-proxy", "ip kpng", "ip6 kpng", "inet somebody"):
        machine.namespace.run("nft", "add", "table", *table.split())
    said = machine.namespace.run(*KPNG, "proxy", "--cleanup")
    assert "removed kube-proxy's table ip kube-proxy" in said
    assert machine.tables() == ["inet somebody"]
    machine.namespace.run(*KPNG, "proxy", "--cleanup")


def test_x14_our_tables_come_before_kube_proxys_go(machine: Machine) -> None:
    """By the kernel's own account of its transactions. Ours, with all services in it, is a single one."""
    machine.namespace.run("nft", "add", "table", "ip", "kube-proxy")
    account = machine.folder / "account"
    with account.open("w") as output:
        monitor = machine.namespace.popen("stdbuf", "-oL", "nft", "monitor", "tables", stdout=output)
    process = machine.start("--hostname-override=node-a")
    try:
        machine.until(lambda: "delete table ip kube-proxy" in account.read_text())
    finally:
        process.kill()
        process.wait()
        monitor.kill()
        monitor.wait()
    told = [line.partition(" {")[0].strip() for line in account.read_text().splitlines() if "table" in line]
    assert told.index("add table ip kpng") < told.index("delete table ip kube-proxy")
    assert "delete table ip kpng" not in told


def test_x14_before_our_rules_are_there_kube_proxys_stay(machine: Machine) -> None:
    """Whatever keeps us from programming: here, an API server that cannot be reached."""
    machine.namespace.run("nft", "add", "table", "ip", "kube-proxy")
    command = [*KPNG, "proxy", "--master=http://127.0.0.1:9", "--hostname-override=node-a"]
    with machine.log.open("w") as log:
        process = machine.namespace.popen(*command, stderr=log)
    try:
        machine.until_said("cannot connect: Connect")
        time.sleep(1)
        assert machine.tables() == ["ip kube-proxy"]
    finally:
        process.kill()
        process.wait()


def test_m8_hard_fail(machine: Machine) -> None:
    words = ["--hostname-override=node-a", "--healthz-bind-address=127.0.0.1:8001", "--bind-address-hard-fail"]
    process = machine.start(*words)
    try:
        assert process.wait(timeout=60) == 2
        assert "cannot listen on 127.0.0.1:8001: Address already in use" in machine.log.read_text()
    finally:
        process.kill()
        process.wait()
