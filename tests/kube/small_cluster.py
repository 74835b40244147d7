"""An API server with one Node, a source that follows it, and a name that has the addresses that a test likes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kpng.kube import AccessOptions, Filters, KubeOptions, KubeSource
from kpng.lab.apiserver import ApiServer
from kpng.model import ProblemLog
from kpng.store import Store

NAME = "api.example"
"""What no resolver knows but those of these tests."""


def add(server: ApiServer, node: str) -> None:
    server.load([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}])


@contextlib.asynccontextmanager
async def serving(node: str, host: str = "127.0.0.1", port: int = 0, **options: Any) -> AsyncIterator[ApiServer]:
    """An API server with one Node."""
    server = ApiServer(**options)
    add(server, node)
    await server.start(host, port)
    try:
        yield server
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def following(access: AccessOptions, **filters: Any) -> AsyncIterator[Store]:
    store = Store()
    options = KubeOptions(access, Filters(**filters))
    task = asyncio.create_task(KubeSource(options, ProblemLog()).run(store))
    try:
        yield store
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def seen(store: Store, node: str, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not (store.snapshot.complete and node in store.snapshot.nodes):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def write_netrc(home: Path, patch: pytest.MonkeyPatch) -> None:
    """A password for every machine that has none of its own, where ftp, curl and git look for it."""
    (home / ".netrc").write_text("default login joe password secret\n")
    (home / ".netrc").chmod(0o600)
    patch.setenv("HOME", str(home))


@contextlib.contextmanager
def resolving(names: dict[str, list[str]]) -> Iterator[None]:
    """Names that have other addresses than elsewhere."""
    real: Callable[..., Any] = socket.getaddrinfo

    def resolve(host: str, port: int, *args: Any, **more: Any) -> Any:
        found = names.get(host, [host])
        return [answer for address in found for answer in real(address, port, *args, **more)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        yield
