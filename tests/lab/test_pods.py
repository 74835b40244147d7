"""What the pods' servers do with requests that are not polite."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from kpng.lab.netns import Namespace
from kpng.lab.pods import answer, main, serve
from kpng.lab.probes import Prober, Target
from kpng.lab.services import ECHO_TCP, ECHO_UDP, HTTP


@pytest.fixture
async def prober(lab_name: str) -> AsyncIterator[Prober]:
    """Sends to pod ``web-9``, which is served at the loopback addresses of a namespace."""
    with Namespace(f"kpng-{lab_name}-pod") as namespace:
        async with AsyncExitStack() as stack:
            await serve("web-9", namespace, stack)
            sender = Prober(namespace)
            stack.callback(sender.close)
            yield sender


def test_an_answer_is_one_line_of_json() -> None:
    line = answer("web-1", "10.0.0.1", "10.0.0.2")
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"pod": "web-1", "address": "10.0.0.1", "client": "10.0.0.2"}


@pytest.mark.netns
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(("protocol", "port"), [("http", HTTP), ("tcp", ECHO_TCP), ("udp", ECHO_UDP)])
async def test_answers_over_every_protocol_and_family(
    prober: Prober, protocol: str, port: int, address: str
) -> None:
    reply = await prober.send(Target(protocol, address, port))
    assert (reply.error, reply.pod, reply.client) == ("", "web-9", address)


@pytest.mark.netns
async def test_an_http_client_gets_a_complete_answer(prober: Prober) -> None:
    raw = await prober.exchange("127.0.0.1", HTTP, b"GET /any HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["address"] == "127.0.0.1"


@pytest.mark.netns
@pytest.mark.parametrize("request_bytes", [b"", b"GET /\r\n", b"\r\n" * 3, b"x" * 200_000])
async def test_a_rude_http_client_does_not_disturb_others(prober: Prober, request_bytes: bytes) -> None:
    connection = prober.socket("127.0.0.1", socket.SOCK_STREAM)
    loop = asyncio.get_running_loop()
    with connection:
        await loop.sock_connect(connection, ("127.0.0.1", HTTP))
        await loop.sock_sendall(connection, request_bytes)
    assert (await prober.send(Target("http", "127.0.0.1", HTTP))).ok


@pytest.mark.netns
async def test_tcp_echo_greets_and_sends_back(prober: Prober) -> None:
    connection = prober.socket("127.0.0.1", socket.SOCK_STREAM)
    loop = asyncio.get_running_loop()
    with connection:
        await loop.sock_connect(connection, ("127.0.0.1", ECHO_TCP))
        greeting = await loop.sock_recv(connection, 4096)
        assert json.loads(greeting)["pod"] == "web-9"
        for line in (b"one\n", b"two\n"):
            await loop.sock_sendall(connection, line)
            assert await loop.sock_recv(connection, 4096) == line


@pytest.mark.netns
async def test_udp_sends_back_what_it_got(prober: Prober) -> None:
    datagrams = prober.socket("::1", socket.SOCK_DGRAM)
    loop = asyncio.get_running_loop()
    with datagrams:
        datagrams.connect(("::1", ECHO_UDP))
        await loop.sock_sendall(datagrams, b"hello")
        first, _, rest = (await loop.sock_recv(datagrams, 4096)).partition(b"\n")
    assert json.loads(first)["client"] == "::1"
    assert rest == b"hello"


@pytest.mark.parametrize("arguments", [[], ["--pod", "web-1"], ["--pod"]])
def test_wrong_usage_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "--pod" in capsys.readouterr().err
