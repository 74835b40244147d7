"""Node ports at loopback addresses (H5, KEP-6032): real connections through the listener and the rules."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from kpng.backends.nft import localhost
from kpng.model import Protocol, Scopes

pytestmark = pytest.mark.netns

LOOPBACK = {4: "127.0.0.1", 6: "::1"}
FAMILIES = pytest.mark.parametrize("family", [4, 6])
PODS = {4: {f"10.1.0.{n}" for n in range(1, 6)}, 6: {f"fd00:1::{n}" for n in range(1, 6)}}


async def ask(address: str, port: int = 30080) -> str:
    """Who answers a process of the node. Raises `OSError` (or gives "" for a connection that is reset)."""
    async with asyncio.timeout(3):
        reader, writer = await asyncio.open_connection(address, port)
        try:
            return (await reader.read()).decode().partition(" ")[0]
        finally:
            writer.close()


def on_node(backend: Any, what: Callable[[], Awaitable[Any]]) -> Any:
    """In the node's namespace, where the listener's event loop runs, once it has listened."""

    async def run() -> Any:
        await asyncio.sleep(0.1)
        return await what()

    return backend.runner.run(run())


@pytest.fixture
def listening(rig: Any) -> Any:
    rig.node.namespace.run("ip", "link", "set", "lo", "up")
    return rig.start(localhost_nodeports=True)


@FAMILIES
def test_h5_a_process_of_the_node_reaches_it(listening: Any, make: Any, family: int) -> None:
    listening.set(make(node_port=30080))
    assert on_node(listening, lambda: ask(LOOPBACK[family])) in PODS[family]


@FAMILIES
def test_h5_off_unless_asked_for(rig: Any, make: Any, family: int) -> None:
    rig.node.namespace.run("ip", "link", "set", "lo", "up")
    backend = rig.start()
    backend.set(make(node_port=30080))
    with pytest.raises(OSError, match="Connect call failed"):
        on_node(backend, lambda: ask(LOOPBACK[family]))


def test_nobody_outside_reaches_loopback(rig: Any, listening: Any, make: Any) -> None:
    """CVE-2020-8558: route_localnet stays off, and the listener is at loopback only."""
    listening.set(make(node_port=30080))
    assert on_node(listening, lambda: ask("127.0.0.1"))
    assert rig.node.namespace.run("sysctl", "-n", "net.ipv4.conf.all.route_localnet").strip() == "0"
    listeners = rig.node.namespace.run("ss", "-Hltn", "sport = :30080").split()
    assert {word for word in listeners if word.endswith(":30080")} == {"127.0.0.1:30080", "[::1]:30080"}


def test_ports_come_and_go_with_their_services(listening: Any, make: Any) -> None:
    listening.set(make(node_port=30080), make("other", vip=8, node_port=30081))
    assert on_node(listening, lambda: ask("127.0.0.1", 30081))
    listening.set(make(node_port=30080), make("udp", vip=9, node_port=30083, protocol=Protocol.UDP))
    for port in (30081, 30083):
        with pytest.raises(OSError, match="Connect call failed"):
            on_node(listening, lambda port=port: ask("127.0.0.1", port))
    assert on_node(listening, lambda: ask("127.0.0.1"))
    listening.set()
    with pytest.raises(OSError, match="Connect call failed"):
        on_node(listening, lambda: ask("127.0.0.1"))


def test_endpoints_that_change_move_no_node_port(
    listening: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All node ports are looked at only when one comes or goes, not at each of the many changes of endpoints."""
    listening.set(make(node_port=30080), make("other", vip=8, node_port=30081))
    listening.wait(0.05)
    looked = 0

    async def look(_: Any) -> None:
        nonlocal looked
        looked += 1

    monkeypatch.setattr(localhost.LocalhostNodePorts, "_reconcile", look)
    listening.set(make(node_port=30080, pods=(1,)), make("other", vip=8, node_port=30081))
    listening.wait(0.05)
    assert looked == 0
    listening.set(make(node_port=30080, pods=(1,)))
    listening.wait(0.05)
    assert looked == 1


def test_without_endpoints_the_connection_is_reset(listening: Any, make: Any) -> None:
    listening.set(make(node_port=30080, pods=()))
    with pytest.raises(ConnectionResetError):
        on_node(listening, lambda: ask("127.0.0.1"))


def test_a_policy_local_counts_for_outside_only(listening: Any, make: Any) -> None:
    """A process of the node is inside the cluster (F2)."""
    local = make(node_port=30080, pods=(1,), external_traffic_local=True)
    pod = {name: replace(e, scopes=Scopes(True, False, True)) for name, e in local.endpoints.items()}
    listening.set(type(local)(local.service, pod))
    assert on_node(listening, lambda: ask("127.0.0.1")) == "10.1.0.1"


def test_a_port_that_is_taken_is_told_once_and_had_in_the_end(
    rig: Any, listening: Any, make: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(localhost, "RETRY_SECONDS", 0.1)
    taken = rig.node.call(lambda: socket.create_server(("127.0.0.1", 30080)))
    with caplog.at_level(logging.WARNING):
        listening.set(make(node_port=30080))
        listening.wait(0.5)
    assert caplog.text.count("cannot listen on node port 30080 of 127.0.0.1") == 1
    taken.close()
    listening.wait(0.3)
    assert on_node(listening, lambda: ask("127.0.0.1")) in PODS[4]


def test_much_data_both_ways_and_half_closed(rig: Any, listening: Any, make: Any) -> None:
    """What is sent after the other side has said that it will send no more arrives."""
    listening.set(make(node_port=30080, pods=(1,)))
    sent = b"x" * 3_000_000
    server = rig.pods.call(lambda: socket.create_server(("10.1.0.1", 9000)))
    listening.set(make(node_port=30080, pods=(1,), target=9000))

    def echo() -> None:
        connection, _ = server.accept()
        with connection:
            got = b"".join(iter(lambda: connection.recv(1 << 16), b""))
            connection.sendall(got)

    serving = rig.pods.start(echo)

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", 30080)
        writer.write(sent)
        writer.write_eof()
        got = await reader.read()
        writer.close()
        return got

    try:
        assert on_node(listening, talk) == sent
        serving.result(5)
    finally:
        server.close()


def test_the_end_ends_connections_too(rig: Any, listening: Any, make: Any) -> None:
    listening.set(make(node_port=30080))
    server = rig.pods.call(lambda: socket.create_server(("10.1.0.1", 9000)))
    listening.set(make(node_port=30080, pods=(1,), target=9000))

    async def hang() -> Any:
        return await asyncio.open_connection("127.0.0.1", 30080)

    reader, writer = on_node(listening, hang)
    listening.wait(0.2)
    listening.stop()
    assert rig.runner.run(asyncio.wait_for(reader.read(), 3)) == b""
    rig.runner.call(writer.close)
    server.close()
