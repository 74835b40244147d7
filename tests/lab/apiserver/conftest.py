"""A running API server, and two ways to talk to it: raw HTTP and the real kubectl."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import settings

from kpng.lab.apiserver import ApiServer

Object = dict[str, Any]

# Examples are not timed: the machine that runs them may be busy.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


class Api:
    """Raw HTTP against one server."""

    def __init__(self, session: aiohttp.ClientSession, server: ApiServer) -> None:
        self.session, self.server = session, server

    async def __call__(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json", **headers: str
    ) -> tuple[int, Any]:
        """Send a request; returns the status and the decoded answer."""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": kind} | headers
        async with self.session.request(method, self.server.url + path, data=data, headers=sent) as response:
            text = await response.read()
            if response.content_type == "application/json":
                return response.status, json.loads(text)
            return response.status, text.decode()

    async def events(self, path: str, count: int, seconds: float = 5.0, **headers: str) -> list[Object]:
        """The first ``count`` events of a watch (fewer if it ends before)."""
        seen: list[Object] = []
        async with asyncio.timeout(seconds), self.session.get(self.server.url + path, headers=headers) as response:
            assert response.status == 200, await response.text()
            async for line in response.content:
                seen.append(json.loads(line))
                if len(seen) == count:
                    break
        return seen


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    running = ApiServer(bookmark_seconds=0.05)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession() as session:
        yield Api(session, server)


@pytest.fixture
def service() -> Callable[..., Object]:
    def make(name: str = "web", **spec: Any) -> Object:
        spec.setdefault("ports", [{"port": 80}])
        metadata = {"name": name, "namespace": "default"}
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}

    return make


@pytest.fixture
def endpoint_slice() -> Callable[..., Object]:
    def make(name: str = "web-1", addresses: tuple[str, ...] = ("10.1.0.1",), **fields: Any) -> Object:
        thing: Object = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4"}
        thing["metadata"] = {"name": name, "namespace": "default"}
        thing["ports"] = [{"name": "http", "port": 8080}]
        thing["endpoints"] = [{"addresses": [address]} for address in addresses]
        return thing | fields

    return make


@pytest.fixture
def kubectl(server: ApiServer, tmp_path: Path) -> Callable[..., Any]:
    """Run the real kubectl; the answer is its output. Fails on an exit code other than ``code``."""
    config = server.kubeconfig(tmp_path / "kubeconfig")
    binary = Path(sys.executable).with_name("kubectl")
    environment = {"HOME": str(tmp_path), "KUBECONFIG": str(config), "PATH": os.environ["PATH"]}

    async def run(*arguments: str, stdin: str = "", code: int = 0) -> str:
        process = await asyncio.create_subprocess_exec(
            str(binary),
            *arguments,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate(stdin.encode())
        assert process.returncode == code, output.decode()
        return output.decode()

    return run
