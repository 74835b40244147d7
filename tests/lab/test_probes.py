"""Summing up replies, and what a probe makes of servers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kpng.lab.netns import Namespace
from kpng.lab.probes import CLOSED, REFUSED, TIMEOUT, UNREACHABLE, Prober, Reply, Tally, Target


def replies(*milliseconds: float, error: str = "") -> list[Reply]:
    return [Reply(at=0, seconds=value / 1000, pod="" if error else "a", error=error) for value in milliseconds]


@pytest.mark.parametrize(
    ("quantile", "expected"), [(0.0, 1.0), (0.5, 51.0), (0.9, 91.0), (0.99, 100.0), (1.0, 100.0)]
)
def test_quantiles_of_the_time_to_an_answer(quantile: float, expected: float) -> None:
    assert Tally(replies(*range(100, 0, -1))).milliseconds(quantile) == pytest.approx(expected)


def test_errors_count_in_the_time_only_if_nothing_was_answered() -> None:
    assert Tally(replies(1) + replies(1000, error=TIMEOUT)).milliseconds(0.99) == pytest.approx(1)
    assert Tally(replies(7, error=REFUSED)).milliseconds(0.5) == pytest.approx(7)
    assert Tally().milliseconds(0.5) is None


def test_a_tally_counts() -> None:
    tally = Tally(
        [
            Reply(0, 0.1, "a", "x"),
            Reply(0, 0.1, "a", "y"),
            Reply(0, 0.1, "b", "x"),
            Reply(0, 0.1, error=TIMEOUT),
        ]
    )
    assert (tally.sent, tally.answered) == (4, 3)
    assert tally.endpoints == {"a": 2, "b": 1}
    assert tally.clients == {"x", "y"}
    assert tally.errors == {TIMEOUT: 1}


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (Target("http", "10.0.0.1", 80), "10.0.0.1:80"),
        (Target("udp", "10.0.0.1", 8), "10.0.0.1:8 udp"),
        (Target("tcp", "fd00::1", 7), "[fd00::1]:7 tcp"),
    ],
)
def test_targets_as_text(target: Target, text: str) -> None:
    assert str(target) == text


@pytest.fixture
async def prober(lab_name: str) -> AsyncIterator[Prober]:
    with Namespace(f"kpng-{lab_name}-probe") as namespace:
        sender = Prober(namespace)
        yield sender
        sender.close()


@pytest.mark.netns
@pytest.mark.parametrize("protocol", ["http", "tcp", "udp"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_nobody_listens(prober: Prober, protocol: str, address: str) -> None:
    assert (await prober.send(Target(protocol, address, 9))).error == REFUSED


@pytest.mark.netns
@pytest.mark.parametrize("protocol", ["http", "tcp", "udp"])
async def test_there_is_no_way(prober: Prober, protocol: str) -> None:
    assert (await prober.send(Target(protocol, "192.0.2.1", 80))).error == UNREACHABLE


@pytest.mark.netns
@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", CLOSED),
        (b"not http", CLOSED),
        (b"HTTP/1.1 200 OK\r\n\r\nnot json", CLOSED),
        (b'HTTP/1.1 200 OK\r\n\r\n{"pod": "a", "client": "b"}', ""),
        (b'HTTP/1.1 200 OK\r\n\r\n{"other": 1}', CLOSED),
        (b"HTTP/1.1 200 OK\r\n\r\n[1]", CLOSED),
    ],
)
async def test_answers_that_are_none(prober: Prober, said: bytes, error: str) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()
        writer.close()

    listener = prober.socket("127.0.0.1", 1)
    listener.bind(("127.0.0.1", 80))
    async with await asyncio.start_server(speak, sock=listener):
        assert (await prober.send(Target("http", "127.0.0.1", 80))).error == error


@pytest.mark.netns
async def test_a_silent_server_is_given_up_in_time(prober: Prober) -> None:
    listener = prober.socket("127.0.0.1", 1)
    with listener:
        listener.bind(("127.0.0.1", 80))
        listener.listen()
        reply = await prober.send(Target("http", "127.0.0.1", 80), seconds=0.05)
    assert reply.error == TIMEOUT
    assert 0.05 <= reply.seconds < 0.5


@pytest.mark.netns
async def test_the_source_address_is_chosen(prober: Prober) -> None:
    seen: list[str] = []

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        writer.close()

    listener = prober.socket("127.0.0.1", 1)
    listener.bind(("127.0.0.1", 80))
    async with await asyncio.start_server(note, sock=listener):
        for source in ("127.0.0.5", "127.0.0.6"):
            await prober.send(Target("http", "127.0.0.1", 80), source=source)
    assert seen == ["127.0.0.5", "127.0.0.6"]
