"""A small network around proxies that run for real: each on a node of its own, a client behind it, and one world.

The world has the API server, and answers at every pod's address there could be: a route makes all of them its own
(ip-route(8), ``local``), so that a cluster of any size has endpoints that answer, and say which of them did.
"""

from __future__ import annotations

import asyncio
import compileall
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from aiohttp.connector import AddrInfoType

import kpng
from kpng.kube.access import Access
from kpng.lab.netns import Namespace, connect
from kpng.load import POD_CIDRS
from kpng.load.writer import ApiWriter, NoAnswerError
from kpng.model import UserError

API_PORT, BRAIN_PORT, TARGET_PORT, SERVICE_PORT = 8001, 12090, 8080, 80
_LOG_LINES = 15
_PROBE_PAUSE, _PROBE_SECONDS = 0.0005, 1.0
KPNG = (sys.executable, "-m", "kpng")


class RigError(RuntimeError):
    """Something did not happen as it should; the text says what, with the end of the log."""


class Process:
    """One process inside a namespace, with a log of its own. It can be killed and started again."""

    def __init__(self, name: str, namespace: Namespace | None, argv: tuple[str, ...], log: Path) -> None:
        self.name = name
        self.log = log
        self._namespace = namespace
        self._argv = argv
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        argv = [*self._argv, *more]
        with self.log.open("a") as output:
            self._popen = subprocess.Popen(
                self._namespace.argv(*argv) if self._namespace else argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def end(self, number: signal.Signals = signal.SIGKILL, seconds: float = 10.0) -> None:
        if self._popen is not None:
            self._popen.send_signal(number)
            self._popen.wait(seconds)

    @property
    def pid(self) -> int:
        assert self._popen is not None
        return self._popen.pid

    @property
    def runs(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def check(self) -> None:
        if not self.runs:
            raise RigError(f"{self.name} has ended{self.tail()}")

    def tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return f"; last lines of {self.log}:\n" + "\n".join(f"  {line}" for line in lines)


class Node:
    """Where a proxy runs, and a client that has it for its router."""

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.namespace = Namespace(f"{name}-node{number}")
        self.client = Namespace(f"{name}-client{number}")
        self.world_address = f"10.200.{number}.1"
        self._node_address = f"10.200.{number}.2"
        self._client_cidr = f"10.201.{number}.0/24"

    def create(self, world: Namespace, stack: ExitStack) -> None:
        for namespace in (self.namespace, self.client):
            stack.enter_context(namespace)
        number = self.number
        connect(world, f"node{number}", self.namespace, "world")
        connect(self.namespace, "client", self.client, "node")
        world.run("ip", "address", "add", f"{self.world_address}/24", "dev", f"node{number}")
        world.run("ip", "route", "add", self._client_cidr, "via", self._node_address)
        self.namespace.run("ip", "address", "add", f"{self._node_address}/24", "dev", "world")
        self.namespace.run("ip", "address", "add", f"10.201.{number}.1/24", "dev", "client")
        self.namespace.run("ip", "route", "add", "default", "via", self.world_address)
        self.namespace.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.client.run("ip", "address", "add", f"10.201.{number}.2/24", "dev", "node")
        self.client.run("ip", "route", "add", "default", "via", f"10.201.{number}.1")


class Rig:
    """The world and its nodes. A context manager: it takes all namespaces and processes with it."""

    def __init__(self, logs: Path) -> None:
        self.name = f"kpng-bench-{os.getpid()}"
        self.world = Namespace(f"{self.name}-world")
        self.logs = logs
        self._stack = ExitStack()
        self._nodes = 0

    def __enter__(self) -> Rig:
        # as an installer does; without it a process that cannot write bytecode compiles everything at each start
        compileall.compile_dir(Path(kpng.__file__).parent, quiet=1)
        with ExitStack() as stack:
            stack.enter_context(self.world)
            self.world.run("ip", "route", "add", "local", POD_CIDRS[0], "dev", "lo")
            self._stack = stack.pop_all()
        endpoints = self.process("endpoints", self.world, sys.executable, "-m", "benchmarks.cluster_rig")
        endpoints.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def node(self) -> Node:
        self._nodes += 1
        made = Node(self._nodes, self.name)
        made.create(self.world, self._stack)
        return made

    def process(self, name: str, namespace: Namespace | None, *argv: str) -> Process:
        """A process that is not started yet, and that ends with the rig."""
        made = Process(name, namespace, argv, self.logs / f"{name}.log")
        self._stack.callback(made.end)
        return made

    def api_server(self, *options: str) -> Process:
        """The embedded one. Each node reaches it at the world's address there."""
        listen = ("--listen", f"0.0.0.0:{API_PORT}")
        return self.process("api", self.world, sys.executable, "-m", "kpng.lab.apiserver", *listen, *options)

    def writer(self, patience: float = 60.0) -> ApiWriter:
        """Writes to `api_server`; its connections are made in the world."""
        thread = self._stack.enter_context(self.world.executor())

        def make(info: AddrInfoType) -> socket.socket:
            return thread.submit(socket.socket, *info[:3]).result()

        return ApiWriter(Access(f"http://127.0.0.1:{API_PORT}"), patience, make)


class Prober:
    """Connects from a namespace, again and again. All of it in one thread that has entered the namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self._thread = namespace.executor()
        self._closed = threading.Event()

    def close(self) -> None:
        self._closed.set()
        self._thread.shutdown()

    async def first_answer(self, address: str, wanted: str = "", seconds: float = 60.0) -> float:
        """When a new connection was first answered, by the endpoint ``wanted`` (a prefix). Raises `RigError`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._thread, partial(_first_answer, address, wanted, seconds, self._closed)
        )

    async def is_answered(self, address: str) -> bool:
        """Whether anybody answers just now."""
        try:
            return bool(await self.ask(address, 0.25))
        except OSError:
            await asyncio.sleep(0.005)
            return False

    async def ask(self, address: str, seconds: float = _PROBE_SECONDS) -> str:
        """Which endpoint answers. Raises OSError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(_ask, address, seconds))


def _first_answer(address: str, wanted: str, seconds: float, closed: threading.Event) -> float:
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = _ask(address, 0.25)
        except OSError:
            answer = "nobody"
        now = time.monotonic()
        if answer.startswith(wanted) and answer != "nobody":
            return now
        if now > deadline or closed.is_set():
            raise RigError(f"{address} is not answered by {wanted or 'anybody'}, but by {answer}")
        time.sleep(_PROBE_PAUSE)


def _ask(address: str, seconds: float) -> str:
    with socket.create_connection((address, SERVICE_PORT), timeout=seconds) as connection:
        if answer := connection.recv(64):
            return answer.decode()
        raise ConnectionError("closed")


def run_to_end(work: Coroutine[Any, Any, None]) -> None:
    """Run a benchmark. SIGTERM ends it as Ctrl-C does, so that nothing is left behind."""

    async def run() -> None:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await task

    try:
        uvloop.run(run())
    except (RigError, UserError, NoAnswerError) as error:
        sys.exit(str(error))
    except (asyncio.CancelledError, KeyboardInterrupt):
        sys.exit("stopped")


async def until(met: Callable[[], bool], what: str, process: Process, seconds: float = 60.0) -> None:
    """Wait until something holds. Raises `RigError` after that time, or if the process ends."""
    deadline = time.monotonic() + seconds
    while not met():
        process.check()
        if time.monotonic() > deadline:
            raise RigError(f"{what}: not within {seconds:g} s{process.tail()}")
        await asyncio.sleep(0.02)


class _Endpoint(asyncio.Protocol):
    """Says at which address it was reached, and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(str(transport.get_extra_info("sockname")[0]).encode())
        transport.close()


async def _answer_everywhere() -> None:
    server = await asyncio.get_running_loop().create_server(_Endpoint, "0.0.0.0", TARGET_PORT, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_answer_everywhere())
