"""Which server is picked: any of those there are now, but for those that have just failed."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Any

import pytest

from kpng.client import servers
from kpng.client.servers import Servers, SocketAddress
from kpng.model import UserError
from kpng.wire.address import TcpAddress, UnixAddress

Dns = dict[str, list[str] | OSError]


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Dns:
    """Names and their addresses; what is not in here is an address itself."""
    names: Dns = {}

    async def resolve(address: TcpAddress | UnixAddress) -> list[SocketAddress]:
        if isinstance(address, UnixAddress):
            return [(socket.AF_UNIX, address.path)]
        found = names.get(address.host, [address.host])
        if isinstance(found, OSError):
            raise found
        return [(socket.AF_INET, (host, address.port)) for host in found]

    monkeypatch.setattr(servers, "resolve", resolve)
    return names


async def picked(these: Servers, count: int = 200) -> Counter[str]:
    return Counter([(await these.pick()).name for _ in range(count)])


@pytest.mark.parametrize("text", ["", ",", "a:1,", "a:1,b", "http://a", "a:1;b:2"])
def test_what_is_no_address_is_the_users_mistake(text: str) -> None:
    with pytest.raises(UserError):
        Servers(text)


NAMES = [
    ("10.0.0.1:1", {"tcp://10.0.0.1:1"}),
    ("10.0.0.1:1,unix:///run/kpng.sock", {"tcp://10.0.0.1:1", "unix:///run/kpng.sock"}),
    (" 10.0.0.1:1 , 10.0.0.1:2,tcp://10.0.0.1:1", {"tcp://10.0.0.1:1", "tcp://10.0.0.1:2"}),
    ("one:1", {"tcp://one:1"}),
    ("two:1", {"tcp://two:1 (10.1.0.1)", "tcp://two:1 (10.1.0.2)"}),
    ("two:1,one:1", {"tcp://two:1 (10.1.0.1)", "tcp://two:1 (10.1.0.2)", "tcp://one:1 (10.1.0.9)"}),
    ("two:1,10.1.0.2:1", {"tcp://two:1 (10.1.0.1)", "tcp://two:1 (10.1.0.2)"}),
]


@pytest.mark.parametrize(("text", "names"), NAMES)
async def test_all_of_them_are_picked_and_told_apart(text: str, names: set[str], dns: Dns) -> None:
    dns |= {"one": ["10.1.0.9"], "two": ["10.1.0.1", "10.1.0.2"]}
    these = Servers(text)
    counted = await picked(these)
    assert counted.keys() == names
    assert {server.name for server in await these.all()} == names
    assert these.count == len(names)
    assert min(counted.values()) > 200 / len(names) / 3, "at random, and so evenly"


async def test_those_that_failed_come_last_and_all_are_forgiven(dns: Dns) -> None:
    dns["brain"] = ["10.1.0.1", "10.1.0.2", "10.1.0.3"]
    these = Servers("brain:1")
    tried = set()
    for left in (True, True, False):
        server = await these.pick()
        assert server.at not in tried
        tried.add(server.at)
        assert these.failed(server) == left
    assert len(await picked(these)) == 3, "where all have failed, any may be tried"
    these.forgive()
    assert these.failed(server)


async def test_names_are_looked_up_each_time(dns: Dns) -> None:
    dns["brain"] = ["10.1.0.1"]
    these = Servers("brain:1")
    server = await these.pick()
    assert not await these.others(server)
    dns["brain"] = ["10.1.0.1", "10.1.0.2"]
    assert await these.others(server)
    assert these.failed(server) is False, "as of the last pick"
    assert set(await picked(these)) == {"tcp://brain:1 (10.1.0.2)"}
    dns["brain"] = ["10.1.0.3"]
    assert set(await picked(these)) == {"tcp://brain:1"}


async def test_while_the_name_server_is_away_what_it_said_last_counts(dns: Dns) -> None:
    """It may itself be behind Services that cannot change while we look for a brain."""
    dns["brain"] = ["10.1.0.1"]
    these = Servers("brain:1")
    await these.pick()
    dns["brain"] = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    assert (await these.pick()).at == (socket.AF_INET, ("10.1.0.1", 1))


async def test_a_name_that_is_not_known_does_not_matter_beside_others(dns: Dns) -> None:
    dns["typo"] = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert set(await picked(Servers("typo:1,10.0.0.2:1"))) == {"tcp://10.0.0.2:1"}
    with pytest.raises(OSError, match="tcp://typo:1: Name or service not known"):
        await Servers("typo:1").pick()
    with pytest.raises(OSError, match="not known"):
        await Servers("typo:1").all()


async def test_a_lookup_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(_: Any) -> list[SocketAddress]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(servers, "resolve", hang)
    monkeypatch.setattr(servers, "LOOKUP_SECONDS", 0.02)
    with pytest.raises(TimeoutError, match=r"tcp://brain:1: the name was not resolved within 0\.02 s"):
        await Servers("brain:1").pick()


async def test_localhost_really_resolves() -> None:
    found = await Servers("localhost:1").all()
    assert {server.at[1][0] for server in found} <= {"127.0.0.1", "::1"}
