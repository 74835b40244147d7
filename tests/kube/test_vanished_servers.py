"""Servers that vanish without a word: no FIN, no RST, nothing. Played in a network namespace, with nftables."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import aiohttp
import pytest
from tests.kube.small_cluster import NAME, add, following, resolving, seen, serving

from kpng.kube import AccessOptions
from kpng.kube.client import connect
from kpng.kube.reflector import Request
from kpng.lab.netns import Namespace

pytestmark = [pytest.mark.netns, pytest.mark.slow]

FIRST, SECOND, PORT = "10.9.0.1", "10.9.0.2", 8001
BY_NAME = AccessOptions(server=f"http://{NAME}:{PORT}")


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace(f"kpt-kube-{os.getpid()}") as made:
        made.run("ip", "link", "set", "lo", "up")
        for address in (FIRST, SECOND):
            made.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        yield made


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same watch over connections as always, in seconds instead of a minute."""
    options = {
        socket.TCP_KEEPIDLE: 1,
        socket.TCP_KEEPINTVL: 1,
        socket.TCP_KEEPCNT: 2,
        socket.TCP_USER_TIMEOUT: 2000,
    }
    monkeypatch.setattr("kpng.kube.client._SOCKET_OPTIONS", options)
    monkeypatch.setattr("kpng.kube.client._CONNECT_SECONDS", 2.0)


@pytest.fixture
def addresses() -> Iterator[list[str]]:
    """Those of NAME; change them as you like."""
    known: list[str] = []
    with resolving({NAME: known}):
        yield known


def vanish(namespace: Namespace, address: str) -> None:
    """From now on nothing comes from there, and nothing gets there."""
    rules = f"add rule inet kpt input ip saddr {address} drop\nadd rule inet kpt input ip daddr {address} drop"
    chain = "add chain inet kpt input { type filter hook input priority 0; }"
    namespace.run("nft", "-f", "-", stdin=f"add table inet kpt\n{chain}\n{rules}\n")


def reappear(namespace: Namespace) -> None:
    namespace.run("nft", "delete", "table", "inet", "kpt")


def play(namespace: Namespace, scenario: Coroutine[Any, Any, None]) -> None:
    """In a thread inside the namespace, as are the threads that it starts."""
    namespace.call(lambda: asyncio.run(scenario))


def test_a_watch_on_a_machine_that_lost_its_power_goes_on_elsewhere(
    namespace: Namespace, addresses: list[str]
) -> None:
    """The connection looks alive; only the kernel's probes can tell. Another server behind the name takes over."""

    async def scenario() -> None:
        async with serving("n1", FIRST, PORT), serving("n1", SECOND, PORT) as second:
            addresses[:] = [FIRST]
            async with following(BY_NAME) as store:
                await seen(store, "n1")
                addresses[:] = [FIRST, SECOND]
                vanish(namespace, FIRST)
                add(second, "n2")
                await seen(store, "n2")
                reappear(namespace)

    play(namespace, scenario())


def test_a_watch_that_is_cut_off_for_a_while_misses_nothing(namespace: Namespace, addresses: list[str]) -> None:
    async def scenario() -> None:
        addresses[:] = [FIRST]
        async with serving("n1", FIRST, PORT) as server, following(BY_NAME) as store:
            await seen(store, "n1")
            vanish(namespace, FIRST)
            add(server, "n2")
            await asyncio.sleep(5)
            assert "n2" not in store.snapshot.nodes
            reappear(namespace)
            await seen(store, "n2")

    play(namespace, scenario())


def test_the_first_of_two_addresses_never_answers(namespace: Namespace, addresses: list[str]) -> None:
    """The second is tried soon after (RFC 8305), not when the first has timed out."""

    async def scenario() -> None:
        addresses[:] = [FIRST, SECOND]
        vanish(namespace, FIRST)
        async with serving("n1", SECOND, PORT), following(BY_NAME) as store:
            await seen(store, "n1", 1.5)

    play(namespace, scenario())


def test_a_request_on_a_connection_that_has_died_since_is_given_up(namespace: Namespace) -> None:
    """The next page of a list, on a kept connection: nothing is acknowledged, and where something is under way,
    there are no keepalive probes (tcp(7), TCP_USER_TIMEOUT)."""

    async def scenario() -> None:
        request = Request("/api/v1/nodes", {}, stream=False)
        direct = AccessOptions(server=f"http://{FIRST}:{PORT}")
        async with serving("n1", FIRST, PORT), await connect(direct) as client:
            assert b"n1" in await client.read(request)
            vanish(namespace, FIRST)
            started = time.monotonic()
            with pytest.raises((aiohttp.ClientError, OSError)):
                await client.read(request)
            assert time.monotonic() - started < 10
            reappear(namespace)
            assert b"n1" in await client.read(request)

    play(namespace, scenario())
