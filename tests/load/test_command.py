"""``kpng load`` as one runs it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kpng.lab.apiserver import ApiServer
from kpng.load import Shape, nodes

KPNG = [str(Path(sys.executable).with_name("kpng")), "load"]


async def load(server: ApiServer | None, *words: str, seconds: float = 30) -> subprocess.CompletedProcess[str]:
    where = ["--server", server.url] if server else []
    run = [*KPNG, *where, *words]
    return await asyncio.to_thread(
        subprocess.run, run, text=True, capture_output=True, check=False, timeout=seconds
    )


async def test_makes_changes_and_removes(server: ApiServer) -> None:
    made = await load(server, "--services", "30", "--nodes", "3", "--rate", "50", "--duration", "0.4")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("64 objects, 20 changes (")
    assert f"to remove it all: kpng load --cleanup --server {server.url}" in made.stderr
    assert len(server.objects("Service")) == 30
    removed = await load(server, "--cleanup")
    assert removed.returncode == 0, removed.stderr
    assert removed.stdout.startswith("removed ")
    assert [server.objects(kind) for kind in ("Service", "EndpointSlice", "Node")] == [[], [], []]


async def test_the_nodes_that_there_are_will_do(server: ApiServer) -> None:
    server.load(nodes(Shape(nodes=2, prefix="real")))
    done = await load(server, "--services", "1", "--endpoints", "2", "--output", "json")
    assert json.loads(done.stdout)["objects"] == 3
    (made,) = server.objects("EndpointSlice")
    assert [endpoint["nodeName"] for endpoint in made["endpoints"]] == ["real-node-0000", "real-node-0001"]
    assert len(server.objects("Node")) == 2


async def test_the_api_server_gives_out_the_addresses(server: ApiServer) -> None:
    await load(server, "--services", "2", "--nodes", "1", "--dual-stack")
    assert [len(thing["spec"]["clusterIPs"]) for thing in server.objects("Service")] == [2, 2]
    assert {thing["addressType"] for thing in server.objects("EndpointSlice")} == {"IPv4", "IPv6"}


async def test_progress_is_told(server: ApiServer) -> None:
    done = await load(server, "--services", "1", "--nodes", "1", "--rate", "20", "--duration", "2.3")
    told = [line for line in done.stderr.splitlines() if line.startswith("changes ")]
    assert len(told) >= 2
    assert "s left" in told[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ends_in_order_when_stopped(server: ApiServer, number: signal.Signals) -> None:
    argv = [*KPNG, "--server", server.url, "--services", "5", "--nodes", "1", "--rate", "50"]
    with subprocess.Popen(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # noqa: ASYNC220
        try:
            deadline = time.monotonic() + 15
            while server.revision < 40:
                await asyncio.sleep(0.02)
                assert time.monotonic() < deadline
            process.send_signal(number)
            out, err = await asyncio.to_thread(process.communicate, timeout=10)
        finally:
            process.kill()
    assert process.returncode == 0
    assert out.startswith("12 objects, ")
    assert "to remove it all: kpng load --cleanup" in err
    assert "Traceback" not in err
    assert len(server.objects("Service")) == 5


async def test_refused_writes_fail_the_command(server: ApiServer) -> None:
    server.faults.refuse(400, 1)  # the namespace, without which the rest cannot be
    done = await load(server, "--services", "3", "--nodes", "1")
    assert done.returncode == 1
    assert "1 writes (7 errors)" in done.stdout
    assert done.stderr.count("WARNING") == 2


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--churn", "endpoints,color"], "--churn: color is not one of endpoints, rolling, scale, flap"),
        (["--churn", ""], "--churn: nothing is not one of"),
        (["--prefix", "No"], "--prefix 'No': expected a short name"),
        (["--endpoints", "0", "--churn", "rolling"], "there are no endpoints"),
        (["--services", "5000000"], "10.96.0.0/12"),
        (["--duration", "nan"], "--duration"),
        (["--file", "/dev/null/x"], "cannot write"),
        (["--file", "x", "--cleanup"], "remove x yourself"),
    ],
)
async def test_what_the_user_can_mend_is_one_line(words: list[str], complaint: str) -> None:
    where = [] if "--file" in words else ["--server", "http://127.0.0.1:9", "--nodes", "1"]
    done = await load(None, *where, *words)
    assert done.returncode == 2
    assert complaint in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


async def test_credentials_that_cannot_be_had_are_one_line(server: ApiServer, tmp_path: Path) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "false", "interactiveMode": "Never"}
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": server.url}}],
        "users": [{"name": "me", "user": {"exec": plugin}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    done = await load(None, "--kubeconfig", str(tmp_path / "config"), "--services", "1")
    assert done.returncode == 2, done.stderr
    assert server.url in done.stderr.splitlines()[-1]
    assert "false" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


async def test_files_are_what_kpng_reads(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    made = await load(None, "--file", str(folder), "--services", "120", "--rate", "50", "--duration", "0.5")
    assert made.returncode == 0, made.stderr
    assert "to remove" not in made.stderr
    argv = [
        KPNG[0],
        "file",
        "-i",
        str(folder),
        "to-local",
        "--node-name",
        "kpng-load-node-0001",
        "to-print",
        "--once",
    ]
    shown = await asyncio.to_thread(subprocess.run, argv, text=True, capture_output=True, check=False, timeout=30)
    assert shown.stdout.splitlines()[-1] == "# full state: 120 services"
