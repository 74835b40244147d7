"""Several processes on one port: the kernel spreads clients over them, and the loss of one is theirs alone."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kpng.client import link, watch_local
from kpng.client.grpc import GrpcConnection
from kpng.model import ChangeSet, UserError
from kpng.server.grpc import GrpcServer
from kpng.testing import key
from kpng.wire.batch import LOCAL_WATCH_BATCHES
from kpng.wire.proto import localv1_pb2 as localv1

PATIENCE = 20
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "demo"},
    "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
}


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "LAST_RETRY_SECONDS", 0.1)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@asynccontextmanager
async def brain(directory: Path, port: int, *options: str) -> AsyncIterator[Process]:
    """``kpng file to-api`` in a process of its own; there when it says so."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kpng", "file", "-i", str(directory)),
        *("to-api", "--listen", f"tcp://127.0.0.1:{port}", *options),
        stderr=PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE):
            while b"serving on" not in (line := await process.stderr.readline()):
                assert line, "it ended"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def instance(address: str) -> str:
    """Which process answers."""
    connection = await GrpcConnection.connect(address)
    try:
        call = await connection.open(LOCAL_WATCH_BATCHES)
        await call.send(localv1.BatchReq(NodeName="n1").SerializeToString())
        while True:
            for message in await call.receive():
                batch = localv1.Batch.FromString(message)
                if batch.HasField("Sync"):
                    return batch.Sync.Instance
    finally:
        await connection.close()


async def told(changes: Any) -> ChangeSet:
    return await asyncio.wait_for(anext(changes), PATIENCE)  # type: ignore[no-any-return]


def write(directory: Path, *names: str) -> None:
    items = [SERVICE | {"metadata": {"name": name, "namespace": "demo"}} for name in names]
    for item in items[1:]:
        item["spec"] = {"clusterIP": "None", "ports": [{"port": 80}]}
    (directory / "new").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    (directory / "new").rename(directory / "all.json")


@pytest.mark.slow
async def test_two_processes_share_a_port_and_the_clients(tmp_path: Path) -> None:
    write(tmp_path, "web")
    port = free_port()
    address = f"127.0.0.1:{port}"
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(brain(tmp_path, port, "--reuse-port"))
        second = await stack.enter_async_context(brain(tmp_path, port, "--reuse-port"))
        counted = Counter([await instance(address) for _ in range(60)])
        assert len(counted) == 2
        assert min(counted.values()) >= 10
        watches = [await stack.enter_async_context(aclosing(watch_local(address, "n1"))) for _ in range(8)]
        assert [set((await told(each)).changes) for each in watches] == [{key("demo/web")}] * 8
        first.send_signal(signal.SIGKILL)
        await first.wait()
        write(tmp_path, "web", "api")
        assert [set((await told(each)).changes) for each in watches] == [{key("demo/api")}] * 8
        assert second.returncode is None
        assert set(Counter([await instance(address) for _ in range(10)])) < set(counted)


async def test_within_a_process_too() -> None:
    servers = [GrpcServer({}) for _ in range(2)]
    address = await servers[0].listen("tcp://127.0.0.1:0", reuse_port=True)
    assert await servers[1].listen(address, reuse_port=True) == address
    for server in servers:
        await server.close()


async def test_a_port_is_shared_only_by_those_that_say_so() -> None:
    servers = [GrpcServer({}) for _ in range(2)]
    address = await servers[0].listen("tcp://127.0.0.1:0")
    for reuse_port in (True, False):
        with pytest.raises(UserError, match="Address already in use"):
            await servers[1].listen(address, reuse_port=reuse_port)
    for server in servers:
        await server.close()


async def test_a_unix_socket_cannot_be_shared(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only a TCP port can be shared"):
        await GrpcServer({}).listen(f"unix://{tmp_path}/s", reuse_port=True)
