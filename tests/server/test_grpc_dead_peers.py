"""A cable is pulled between two machines: both ends of a call notice, though nobody says goodbye."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator

import pytest

from kpng.client.grpc import ClientCall, GrpcConnection
from kpng.lab.netns import Namespace, connect
from kpng.server.grpc import GrpcServer, Limits, ServerCall
from kpng.wire.grpc import frame
from kpng.wire.http2 import Keepalive

pytestmark = pytest.mark.netns

ADDRESS = "10.99.1.1"
LIMITS = Limits(handshake_seconds=1.0, keepalive_seconds=0.3, keepalive_timeout_seconds=0.5)
KEEPALIVE = Keepalive(handshake_seconds=1.0, idle_seconds=0.3, timeout_seconds=0.5)
SECONDS = 10.0


@pytest.fixture
def machines() -> Iterator[tuple[Namespace, Namespace]]:
    brain, node = (Namespace(f"kpt-{os.getpid()}-{name}") for name in ("brain", "node"))
    with brain, node:
        connect(brain, "eth0", node, "eth0")
        brain.run("ip", "address", "add", f"{ADDRESS}/24", "dev", "eth0")
        node.run("ip", "address", "add", "10.99.1.2/24", "dev", "eth0")
        yield brain, node


class Rig:
    """A server and a client, each in a thread of its own machine, and when each noticed."""

    def __init__(self, chatty: bool) -> None:
        self.chatty = chatty
        self.talking = threading.Event()
        self.address = ""
        self.listening = threading.Event()

    async def serve(self) -> float:
        """Returns when the handler was cancelled."""
        over = asyncio.Event()

        async def watch(call: ServerCall) -> None:
            try:
                await call.receive()
                await call.send([frame(b"hello")])
                while self.chatty:  # data on its way that nobody acknowledges
                    await call.send([frame(bytes(10_000))])
                    await asyncio.sleep(0.01)
                await call.receive()
            finally:
                over.set()

        server = GrpcServer({"/t/x": watch}, LIMITS)
        self.address = await server.listen(f"tcp://{ADDRESS}:0")
        self.listening.set()
        await asyncio.wait_for(over.wait(), SECONDS)
        noticed = time.monotonic()
        await server.close()
        return noticed

    async def watch(self) -> float:
        """Returns when receiving failed."""
        connection = await GrpcConnection.connect(self.address, keepalive=KEEPALIVE)
        call = await connection.open("/t/x")
        await call.send(b"")
        await call.receive()
        self.talking.set()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(self._receive_on(call), SECONDS)
        return time.monotonic()

    @staticmethod
    async def _receive_on(call: ClientCall) -> None:
        while True:
            await call.receive()


@pytest.mark.parametrize("chatty", [False, True], ids=["idle", "chatty"])
def test_a_pulled_cable_is_noticed(machines: tuple[Namespace, Namespace], chatty: bool) -> None:
    brain, node = machines
    rig = Rig(chatty)
    with brain.executor() as in_brain, node.executor() as in_node:
        serving = in_brain.submit(lambda: asyncio.run(rig.serve()))
        assert rig.listening.wait(SECONDS)
        watching = in_node.submit(lambda: asyncio.run(rig.watch()))
        assert rig.talking.wait(SECONDS)
        node.run("ip", "link", "set", "eth0", "down")
        pulled = time.monotonic()
        noticed = [future.result(2 * SECONDS) - pulled for future in (serving, watching)]
    assert all(0 <= seconds < 5 for seconds in noticed), noticed
