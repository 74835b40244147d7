"""Health beside a backend that is run by ``to-local`` or ``local``: healthCheckNodePorts, /healthz, /livez."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from kpng.cli.health import HEALTHZ_OPTION
from kpng.lab.netns import Namespace

KPNG = [sys.executable, "-m", "kpng"]
SLICE: dict[str, Any] = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"namespace": "demo", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.244.0.5"], "nodeName": "n1"}],
    "ports": [{"name": "http", "port": 8080}],
}
OBJECTS: list[dict[str, Any]] = [
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n1"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.10"}]},
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "demo", "name": "web"},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.20",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 32100,
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
        },
    },
    SLICE,
]


@pytest.fixture
def machine() -> Iterator[Namespace]:
    with Namespace(f"kpt-{os.getpid()}-health") as namespace:
        yield namespace


def write(folder: Path, *objects: dict[str, Any]) -> Path:
    made, path = folder / "new.json", folder / "objects.json"
    made.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
    return made.replace(path)


def get(machine: Namespace, port: int, path: str = "/") -> int:
    """The status; 0 where nobody answers."""

    def ask() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    return machine.call(ask)


def until(machine: Namespace, port: int, status: int, path: str = "/") -> None:
    deadline = time.monotonic() + 15
    while (seen := get(machine, port, path)) != status:
        assert time.monotonic() < deadline, f"{path} of port {port}: {seen}"
        time.sleep(0.05)


@pytest.mark.netns
@pytest.mark.parametrize("backend", ["to-nft", "to-healthchecks"])
def test_services_are_as_healthy_as_their_endpoints_here(machine: Namespace, tmp_path: Path, backend: str) -> None:
    """L4 and L6: the node is healthy for a Service as long as it has an endpoint of it that is ready."""
    path = write(tmp_path, *OBJECTS)
    words = ["file", "-i", str(path), "to-local", backend, "--node-name", "n1"]
    with machine.popen(*KPNG, *words, "--healthz-bind-address", "127.0.0.1:10256") as process:
        try:
            until(machine, 32100, 200)
            until(machine, 10256, 200, "/healthz")
            assert get(machine, 10256, "/livez") == 200
            assert get(machine, 10256, "/other") == 404
            write(tmp_path, *OBJECTS[:2], {**SLICE, "endpoints": []})
            until(machine, 32100, 503)
            write(tmp_path, OBJECTS[0])
            until(machine, 32100, 0)
        finally:
            process.terminate()
            assert process.wait(5) == 0


@pytest.mark.netns
def test_a_backend_that_forwards_nothing_opens_no_ports(machine: Namespace, tmp_path: Path) -> None:
    path = write(tmp_path, *OBJECTS)
    words = ["file", "-i", str(path), "to-local", "to-print", "--node-name", "n1"]
    healthz = ["--healthz-bind-address", "[::1]:10256"]
    with machine.popen(*KPNG, *words, *healthz, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 15
            while "10256" not in (listening := machine.run("ss", "-Hltn")):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert "32100" not in listening
        finally:
            process.terminate()
            assert process.wait(5) == 0


@pytest.mark.parametrize("address", ["10256", "localhost:10256", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"])
def test_an_address_that_is_none(address: str) -> None:
    command = click.Command("to-x", params=[HEALTHZ_OPTION])
    result = CliRunner().invoke(command, ["--healthz-bind-address", address])
    assert result.exit_code == 2
    assert f"--healthz-bind-address: {address!r} is not ADDRESS:PORT" in result.output


def test_an_address_in_use_ends_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = write(tmp_path, *OBJECTS)
        words = ["file", "-i", str(path), "to-local", "to-print", "--healthz-bind-address", f"127.0.0.1:{port}"]
        ended = subprocess.run([*KPNG, *words], capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert f"kpng: error: health of the proxy: cannot listen on 127.0.0.1:{port}" in ended.stderr


def test_what_ends_at_once_serves_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, *OBJECTS)
    words = ["file", "-i", str(path), "to-local", "to-print", "--once", "--healthz-bind-address", "127.0.0.1:0"]
    ended = subprocess.run([*KPNG, *words], capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("kpng: error: --healthz-bind-address and --once: ")
