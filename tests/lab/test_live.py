"""The scenarios under change, against a cluster that is played: each must see what a bad proxy does wrong.

The real thing runs in test_run and test_wrong_proxies; here every single lapse is tried, in milliseconds. The
played proxy follows what is written to the API server, but for its `Lapses`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, cast

import pytest

from kpng.lab import live
from kpng.lab.api import SERVICES, SLICES
from kpng.lab.cluster import Cluster
from kpng.lab.outcome import Outcome
from kpng.lab.probes import REFUSED, TIMEOUT, Conversation, Prober, Reply, Target
from kpng.lab.processes import LabError
from kpng.lab.services import SHOP
from kpng.lab.topology import PodPlan, plan
from kpng.lab.traffic import cluster_ip

STAYS, LEAVES = (pod.name for pod in plan().pods_of(SHOP.app))


@dataclass
class Lapses:
    """What the played proxy does wrong."""

    ignores: set[str] = field(default_factory=set)  # slices whose changes never arrive
    ignores_terminating: bool = False
    cuts_connections: bool = False
    refuses_every: int = 0
    silent_without_endpoints: bool = False
    delay: float = 0.0


class World:
    """Cluster, API server and proxy in one; the names of its methods are those of the real ones."""

    def __init__(self, lapses: Lapses) -> None:
        self.topology = plan()
        self.lapses = lapses
        self.pods_running = {pod.name for pod in self.topology.pods}
        self.slices: dict[str, list[str]] = {f"{SHOP.name}-ipv4": [STAYS, LEAVES]}
        self.services = {SHOP.cluster_ips.ipv4: SHOP.name}
        self.written: list[tuple[str, str]] = []
        self.requests = 0
        self.turn = cycle(range(1000))
        self.api = self.processes = self
        self.probers = {"caller": cast(Prober, self)}

    # -- the API server ------------------------------------------------------------------------------------

    async def create(self, path: str, made: dict[str, Any]) -> dict[str, Any]:
        name = made["metadata"]["name"]
        self.written.append(("create", name))
        if path == SERVICES:
            made["spec"]["clusterIP"] = "10.96.200.1"
            self._soon(name, lambda: self.services.update({"10.96.200.1": name}))
        else:
            self._program(name, made["endpoints"])
        return made

    async def patch(self, path: str, name: str, change: dict[str, Any]) -> dict[str, Any]:
        assert path == SLICES
        self.written.append(("patch", name))
        self._program(name, change["endpoints"])
        return change

    async def delete(self, path: str, name: str) -> dict[str, Any]:
        self.written.append(("delete", name))
        if path == SLICES:
            self._program(name, [])
        return {}

    def _program(self, name: str, endpoints: list[dict[str, Any]]) -> None:
        chosen = [endpoint["targetRef"]["name"] for endpoint in endpoints if self._is_usable(endpoint)]
        self._soon(name, lambda: self.slices.update({name: chosen}))

    def _is_usable(self, endpoint: dict[str, Any]) -> bool:
        return bool(endpoint["conditions"]["ready"]) or self.lapses.ignores_terminating

    def _soon(self, name: str, change: Callable[[], object]) -> None:
        if name not in self.lapses.ignores:
            asyncio.get_running_loop().call_later(self.lapses.delay, change)

    # -- processes -----------------------------------------------------------------------------------------

    def check(self) -> None:
        return

    def pids(self) -> dict[str, int]:
        return dict.fromkeys(self.pods_running, 1)

    async def stop(self, name: str) -> None:
        self.pods_running.discard(name)

    async def start_pod(self, pod: PodPlan) -> None:
        self.pods_running.add(pod.name)

    # -- traffic -------------------------------------------------------------------------------------------

    async def send(self, target: Target, *, source: str = "", seconds: float = 1.0) -> Reply:
        started = time.monotonic()
        await asyncio.sleep(0)
        self.requests += 1
        pod, error = self._forward(target.address)
        if self.lapses.refuses_every and self.requests % self.lapses.refuses_every == 0:
            error = REFUSED
        return Reply(started, time.monotonic() - started, "" if error else pod, source, error)

    def _forward(self, address: str) -> tuple[str, str]:
        names = {"10.96.0.85": "empty"} | self.services
        if address not in names:
            return "", TIMEOUT
        pods = self.slices.get(f"{names[address]}-ipv4", [])
        if not pods:
            return "", TIMEOUT if self.lapses.silent_without_endpoints else REFUSED
        pod = pods[next(self.turn) % len(pods)]
        return pod, "" if pod in self.pods_running else TIMEOUT

    async def open(self, target: Target) -> Conversation:
        assert target == cluster_ip(SHOP, "echo-tcp")
        reply = await self.send(target)
        if not reply.ok:
            raise TimeoutError
        return cast(Conversation, Talk(reply.pod, self))


@dataclass
class Talk:
    """A connection that goes on for as long as the played proxy lets it."""

    pod: str
    world: World

    async def goes_on(self) -> bool:
        return not self.world.lapses.cuts_connections and self.pod in self.world.pods_running

    def close(self) -> None:
        return


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EFFECT_SECONDS", 1.0)
    monkeypatch.setattr(live, "STEADY_SECONDS", 0.02)
    monkeypatch.setattr("kpng.lab.load.PAUSE_SECONDS", 0.0002)


async def play(**lapses: Any) -> tuple[dict[str, Outcome], World]:
    """Every scenario, in a world with such lapses; by the first words of its title."""
    world = World(Lapses(**lapses))
    return {row.title: row async for row in live.scenarios(cast(Cluster, world))}, world


GOES, RETURNS = "a pod goes away, under load", "a pod comes back, under load"
FIRST, LAST = "a service gets its first endpoint", "a service loses its last endpoint"
NEW = "a new service"


@pytest.mark.parametrize("delay", [0.0, 0.05])
async def test_a_proxy_that_follows_passes_and_the_world_is_as_before(delay: float) -> None:
    rows, world = await play(delay=delay)
    assert list(rows) == [GOES, RETURNS, FIRST, LAST, NEW]
    assert {title: row.problems for title, row in rows.items()} == dict.fromkeys(rows, ())
    assert world.slices[f"{SHOP.name}-ipv4"] == [STAYS, LEAVES]
    assert LEAVES in world.pods_running
    made, gone = ([name for verb, name in world.written if verb == wanted] for wanted in ("create", "delete"))
    assert sorted(made) == sorted(gone) == ["empty-ipv4", "new", "new-ipv4"]


async def test_the_notes_say_how_long_it_took() -> None:
    rows, _ = await play(delay=0.05)
    for title, words in (
        (GOES, "last hit"),
        (RETURNS, "first hit"),
        (FIRST, "first answer"),
        (LAST, "first refused"),
    ):
        said = rows[title].note
        assert said.startswith(words), said
        milliseconds = int(said.removeprefix(words).split()[0])
        assert 40 <= milliseconds < 1000, said


@pytest.mark.parametrize(
    ("lapses", "failing", "says"),
    [
        ({"ignores": {"shop-ipv4"}}, GOES, "shop-2 was still hit 0.4 s after the change"),
        ({"ignores": {"shop-ipv4"}}, GOES, "requests failed"),
        ({"ignores_terminating": True}, GOES, "shop-2 was still hit 0.4 s after the change"),
        ({"cuts_connections": True}, GOES, "a connection from before the change was cut"),
        ({"refuses_every": 17}, GOES, "requests failed"),
        ({"refuses_every": 3}, RETURNS, "requests failed"),
        ({"ignores": {"empty-ipv4"}}, FIRST, "no answer; "),
        ({"silent_without_endpoints": True}, LAST, "never refused; "),
        ({"ignores": {"new"}}, NEW, "no answer; "),
        ({"ignores": {"new-ipv4"}}, NEW, "no answer; "),
    ],
)
async def test_a_lapse_fails_its_scenario(
    monkeypatch: pytest.MonkeyPatch, lapses: dict[str, Any], failing: str, says: str
) -> None:
    monkeypatch.setattr(live, "EFFECT_SECONDS", 0.4)
    monkeypatch.setattr(live, "_SCENARIOS", {failing: live._SCENARIOS[failing]})
    rows, _ = await play(**lapses)
    assert not rows[failing].passed
    assert any(says in problem for problem in rows[failing].problems), rows[failing].problems


async def test_a_lapse_of_one_service_spares_the_others() -> None:
    rows, _ = await play(ignores={"new"})
    assert [title for title, row in rows.items() if not row.passed] == [NEW]
    rows, _ = await play(cuts_connections=True)
    assert [title for title, row in rows.items() if not row.passed] == [GOES]


async def test_a_new_service_is_removed_even_if_it_never_answered() -> None:
    _, world = await play(ignores={"new"})
    assert ("delete", "new") in world.written
    assert ("delete", "new-ipv4") in world.written


async def test_a_pod_that_never_comes_back_is_named() -> None:
    world = World(Lapses())
    world.slices["shop-ipv4"] = [STAYS]
    world.lapses.ignores = {"shop-ipv4"}
    row = await live.pod_returns(cast(Cluster, world))
    assert row.problems == (f"never answered: {LEAVES}",)


async def test_an_api_server_that_refuses_fails_the_row_and_the_next_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*_: Any) -> dict[str, Any]:
        raise LabError("the lab's API server refused POST /api: no")

    monkeypatch.setattr(World, "create", refuse)
    rows, _ = await play()
    assert rows[GOES].passed
    assert rows[FIRST].problems == rows[NEW].problems == ("the lab's API server refused POST /api: no",)
    assert len(rows) == 5


async def test_where_no_connection_reaches_the_pod_the_scenario_says_so() -> None:
    world = World(Lapses())
    world.slices["shop-ipv4"] = [STAYS]
    with pytest.raises(LabError, match=f"no connection to .* reached {LEAVES}"):
        await live.pod_leaves(cast(Cluster, world))
    world.slices["shop-ipv4"] = []
    with pytest.raises(LabError, match=r"no connection to 10.96.0.84:7 tcp: timeout"):
        await live.pod_leaves(cast(Cluster, world))
