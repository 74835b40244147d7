"""A client that lists and watches, through cuts and compactions, ends with what the server has."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from kpng.lab.apiserver import ApiServer

Key = tuple[str, str]


class Replica:
    """The least reflector: list (or the initial events), watch, list again when told 410."""

    def __init__(self, api: Any, path: str, selector: str, *, initial_events: bool) -> None:
        self.api, self.path, self.selector, self.initial_events = api, path, selector, initial_events
        self.objects: dict[Key, Any] = {}
        self.revision = 0
        self.lists = 0
        self.cuts = 0

    async def run(self) -> None:
        while True:
            try:
                if self.revision == 0 and not self.initial_events:
                    await self._list()
                await self._watch()
            except aiohttp.ClientError:
                self.cuts += 1

    async def _list(self) -> None:
        _, listing = await self.api("GET", f"{self.path}?{urlencode({'labelSelector': self.selector})}")
        self.objects = {self._key(item): item for item in listing["items"]}
        self.revision = int(listing["metadata"]["resourceVersion"])
        self.lists += 1

    async def _watch(self) -> None:
        query = {"watch": "1", "labelSelector": self.selector, "allowWatchBookmarks": "1"}
        if self.revision:
            query["resourceVersion"] = str(self.revision)
        else:
            self.objects = {}
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
            self.lists += 1
        async with self.api.session.get(f"{self.api.server.url}{self.path}?{urlencode(query)}") as response:
            while line := await response.content.readline():
                if not self._event(json.loads(line)):
                    return

    def _event(self, event: Any) -> bool:
        thing = event["object"]
        if event["type"] == "ERROR":
            assert thing["code"] == 410
            self.revision = 0
            return False
        if event["type"] == "DELETED":
            del self.objects[self._key(thing)]
        elif event["type"] != "BOOKMARK":
            assert (self._key(thing) in self.objects) == (event["type"] == "MODIFIED")
            self.objects[self._key(thing)] = thing
        self.revision = int(thing["metadata"]["resourceVersion"])
        return True

    @staticmethod
    def _key(thing: Any) -> Key:
        return thing["metadata"]["namespace"], thing["metadata"]["name"]


def churn(server: ApiServer, chance: random.Random, make: Any) -> None:
    """One random change."""
    thing = make(f"s{chance.randrange(6)}")
    held = {item["metadata"]["name"] for item in server.objects("Service")}
    if thing["metadata"]["name"] in held and chance.random() < 0.3:
        server.delete(thing)
        return
    thing["metadata"]["labels"] = {"color": chance.choice(["red", "blue"])}
    thing["spec"]["ports"] = [{"port": chance.randrange(1, 9)}]
    server.load([thing])


def disturb(server: ApiServer, chance: random.Random) -> None:
    match chance.randrange(12):
        case 0:
            server.faults.drop_watches()
        case 1:
            server.compact()
            server.faults.drop_watches()
        case 2:
            server.compact()


@pytest.mark.parametrize("initial_events", [False, True])
@pytest.mark.parametrize("seed", range(4))
async def test_replicas_end_up_equal(
    api: Any, server: ApiServer, service: Any, seed: int, initial_events: bool
) -> None:
    chance = random.Random(seed)
    path = "/api/v1/namespaces/default/services"
    selectors = ["", "color=red", "color!=red"]
    replicas = [Replica(api, path, selector, initial_events=initial_events) for selector in selectors]
    following = [asyncio.create_task(replica.run()) for replica in replicas]
    await server.faults.wait_for_watches(3)
    for _ in range(150):
        churn(server, chance, service)
        disturb(server, chance)
        await asyncio.sleep(chance.choice([0, 0, 0.002]))
    async with asyncio.timeout(5):
        while any(replica.revision < server.revision for replica in replicas):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the last bookmark or event is on its way
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    assert sum(replica.cuts for replica in replicas) > 0
    for replica, selector in zip(replicas, selectors, strict=True):
        _, listing = await api("GET", f"{path}?{urlencode({'labelSelector': selector})}")
        names = [item["metadata"]["name"] for item in listing["items"]]
        assert sorted(name for _, name in replica.objects) == names
        for item in listing["items"]:
            assert replica.objects["default", item["metadata"]["name"]] == item
