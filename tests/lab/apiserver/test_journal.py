"""A server that was killed has everything again."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kpng.lab.apiserver import ApiServer

Make = Callable[..., dict[str, Any]]
PATH = "/api/v1/namespaces/default/services"


def resumed(journal: Path) -> ApiServer:
    server = ApiServer()
    server.keep_journal(journal)
    return server


def disturb(server: ApiServer, service: Make, dice: random.Random) -> None:
    name = f"s{dice.randrange(8)}"
    present = {thing["metadata"]["name"] for thing in server.objects("Service")}
    if name in present and dice.random() < 0.4:
        server.delete(service(name))
    else:
        server.load([service(name, ports=[{"port": dice.randrange(1, 9)}])])


@pytest.mark.parametrize("seed", range(5))
def test_everything_is_there_again(tmp_path: Path, service: Make, seed: int) -> None:
    dice, journal = random.Random(seed), tmp_path / "journal"
    server = resumed(journal)
    for _ in range(30):
        disturb(server, service, dice)
    again = resumed(journal)
    assert by_name(again) == by_name(server)
    assert again.revision == server.revision


def by_name(server: ApiServer) -> dict[str, Any]:
    return {thing["metadata"]["name"]: thing for thing in server.objects("Service")}


def test_it_goes_on_from_there(tmp_path: Path, service: Make) -> None:
    journal = tmp_path / "journal"
    first = resumed(journal)
    first.load([service("a"), service("b")])
    second = resumed(journal)
    second.load([service("c")])
    second.delete(service("a"))
    third = resumed(journal)
    assert [thing["metadata"]["name"] for thing in third.objects("Service")] == ["b", "c"]
    assert third.revision == second.revision > first.revision


def test_addresses_are_taken_again(tmp_path: Path, service: Make) -> None:
    journal = tmp_path / "journal"
    resumed(journal).load([service("a", clusterIP="10.96.0.77")])
    with pytest.raises(Exception, match="already allocated"):
        resumed(journal).load([service("b", clusterIP="10.96.0.77")])


def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path, service: Make) -> None:
    journal = tmp_path / "journal"
    resumed(journal).load([service("a"), service("b")])
    journal.write_bytes(journal.read_bytes()[:-20])
    server = resumed(journal)
    assert [thing["metadata"]["name"] for thing in server.objects("Service")] == ["a"]
    server.load([service("c")])
    assert [thing["metadata"]["name"] for thing in resumed(journal).objects("Service")] == ["a", "c"]


async def test_watches_go_on_over_a_restart(tmp_path: Path, service: Make) -> None:
    """The history is there, too: who has seen everything up to the kill misses nothing, and hears nothing twice."""
    journal = tmp_path / "journal"
    first = resumed(journal)
    first.load([service("a")])
    seen = first.revision
    first.load([service("b")])
    first.delete(service("a"))
    again = resumed(journal)
    await again.start()
    try:
        events = await watch(again, seen, 2)
    finally:
        await again.stop()
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("ADDED", "b"),
        ("DELETED", "a"),
    ]


async def watch(server: ApiServer, revision: int, count: int) -> list[Any]:
    events: list[Any] = []
    url = f"{server.url}{PATH}?watch=1&resourceVersion={revision}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        async for line in answer.content:
            events.append(json.loads(line))
            if len(events) == count:
                break
    return events


def test_the_command_survives_a_kill(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    argv = [sys.executable, "-m", "kpng.lab.apiserver", "--listen", "127.0.0.1:0", "--journal", str(journal)]
    for shape in ("services=3,nodes=2", "services=50"):  # the second time it is not looked at
        with subprocess.Popen([*argv, "--shape", shape], stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            lines = [process.stderr.readline(), process.stderr.readline()]
            process.send_signal(signal.SIGKILL)
        assert "serving on" in lines[1], lines
    assert "9 changes in" in lines[0]


@pytest.mark.parametrize("content", ["hello\n", '{"type":"ADDED","object":{}}\n', '{"type":"ODD","object":{}}\n'])
def test_what_is_no_journal_is_said(tmp_path: Path, content: str) -> None:
    journal = tmp_path / "journal"
    journal.write_text(content)
    argv = [sys.executable, "-m", "kpng.lab.apiserver", "--listen", "127.0.0.1:0", "--journal", str(journal)]
    done = subprocess.run(argv, text=True, capture_output=True, check=False, timeout=20)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"Error: {journal}: ")
