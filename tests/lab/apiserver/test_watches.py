"""Watches: where they begin, what they see, how they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from kpng.lab.apiserver import ApiServer
from kpng.lab.apiserver.options import parse_options
from kpng.lab.apiserver.registry import SERVICE
from kpng.lab.apiserver.storage import Storage
from kpng.lab.apiserver.views import View
from kpng.lab.apiserver.watch import Watch

PATH = "/api/v1/namespaces/default/services"
INITIAL = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}


def watch(**query: Any) -> str:
    return f"{PATH}?" + urlencode({"watch": "true"} | query)


def short(events: list[dict[str, Any]]) -> list[str]:
    return [f"{event['type']} {event['object']['metadata'].get('name', '')}".strip() for event in events]


def labelled(thing: dict[str, Any], **labels: str) -> dict[str, Any]:
    thing["metadata"]["labels"] = labels
    return thing


async def test_from_a_revision_every_later_change_in_order(api: Any, server: ApiServer, service: Any) -> None:
    server.load([service("old")])
    start = server.revision
    watching = asyncio.create_task(api.events(watch(resourceVersion=start), 4))
    server.load([service("a"), service("b"), service("a", ports=[{"port": 81}])])
    await server.faults.wait_for_watches()
    server.delete(service("b"))
    events = await watching
    assert short(events) == ["ADDED a", "ADDED b", "MODIFIED a", "DELETED b"]
    revisions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert revisions == sorted(set(revisions))
    assert revisions[0] > start
    assert revisions[-1] == server.revision


@pytest.mark.parametrize("query", [{}, {"resourceVersion": "0"}])
async def test_without_a_revision_the_state_comes_first(
    api: Any, server: ApiServer, service: Any, query: dict[str, str]
) -> None:
    server.load([service("b"), service("a")])
    assert short(await api.events(watch(**query), 2)) == ["ADDED a", "ADDED b"]


async def test_watch_list_marks_the_end_of_the_state(api: Any, server: ApiServer, service: Any) -> None:
    server.load([service("a"), service("b")])
    *added, mark = await api.events(watch(**INITIAL), 3)
    assert short(added) == ["ADDED a", "ADDED b"]
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert mark["object"]["metadata"]["resourceVersion"] == str(server.revision)


async def test_the_bookmark_of_slices_has_null_lists(api: Any) -> None:
    path = "/apis/discovery.k8s.io/v1/endpointslices?" + urlencode({"watch": "1"} | INITIAL)
    (mark,) = await api.events(path, 1)
    assert (mark["object"]["endpoints"], mark["object"]["ports"]) == (None, None)


async def test_bookmarks_tell_how_far_the_world_is(api: Any, server: ApiServer, service: Any) -> None:
    watching = asyncio.create_task(
        api.events(watch(resourceVersion=server.revision, allowWatchBookmarks="true"), 2)
    )
    await server.faults.wait_for_watches()
    server.load([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}])
    events = await watching
    assert short(events) == ["BOOKMARK", "BOOKMARK"]
    assert events[0]["object"]["metadata"]["resourceVersion"] == str(server.revision)


async def test_timeout_ends_a_watch_and_no_bookmarks_unless_allowed(api: Any, server: ApiServer) -> None:
    begun = asyncio.get_running_loop().time()
    assert await api.events(watch(resourceVersion=server.revision, timeoutSeconds=1), 1) == []
    assert 0.9 < asyncio.get_running_loop().time() - begun < 10


async def test_a_forgotten_revision_is_gone_inside_the_stream(api: Any, server: ApiServer, service: Any) -> None:
    start = server.revision
    server.load([service("a")])
    server.compact()
    (event,) = await api.events(watch(resourceVersion=start), 2)
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    assert event["object"]["message"] == f"too old resource version: {start} ({server.revision})"


async def test_history_is_bounded(service: Any) -> None:
    server = ApiServer(history_limit=3)
    await server.start()
    start = server.revision
    server.load(service(f"s{index}") for index in range(4))
    async with aiohttp.ClientSession() as session:
        async with session.get(server.url + watch(resourceVersion=start)) as response:
            assert b'"code":410' in await response.content.readline()
        async with session.get(server.url + watch(resourceVersion=start + 1)) as response:
            assert b'"name":"s1"' in await response.content.readline()
    await server.stop()


async def test_entering_and_leaving_a_selection(api: Any, server: ApiServer, service: Any) -> None:
    server.load([labelled(service("a"), color="red")])
    path = watch(resourceVersion=server.revision, labelSelector="color=red")
    for color in ("red", "blue", "blue", "red"):
        server.load([labelled(service("a", ports=[{"port": server.revision}]), color=color)])
    server.load([labelled(service("b"), color="blue")])
    server.delete(service("b"))
    server.delete(service("a"))
    events = await api.events(path, 4)
    assert short(events) == ["MODIFIED a", "DELETED a", "ADDED a", "DELETED a"]
    left = events[1]["object"]["metadata"]
    assert left["labels"] == {"color": "red"}
    assert int(left["resourceVersion"]) > int(events[0]["object"]["metadata"]["resourceVersion"])


async def test_one_object_and_one_namespace(api: Any, server: ApiServer, service: Any) -> None:
    path = watch(resourceVersion=server.revision, fieldSelector="metadata.name=b")
    elsewhere = service("b")
    elsewhere["metadata"]["namespace"] = "other"
    server.load([service("a"), elsewhere, service("b")])
    (event,) = await api.events(path, 1)
    assert event["object"]["metadata"]["namespace"] == "default"


async def test_a_lagging_watch_is_told_that_it_missed_something(api: Any, server: ApiServer, service: Any) -> None:
    watching = asyncio.create_task(api.events(watch(resourceVersion=server.revision), 5))
    await server.faults.wait_for_watches()
    server.load([service("a")])
    server.compact()
    assert short(await watching) == ["ERROR"]


async def test_watch_list_can_be_refused(service: Any) -> None:
    server = ApiServer(watch_list=False)
    await server.start()
    async with aiohttp.ClientSession() as session, session.get(server.url + watch(**INITIAL)) as response:
        assert response.status == 422
        assert "sendInitialEvents is forbidden" in (await response.json())["message"]
    await server.stop()


async def test_clients_that_leave_are_forgotten(api: Any, server: ApiServer) -> None:
    await api.events(watch(**INITIAL), 1)
    async with asyncio.timeout(5):
        while server.faults.watches:  # noqa: ASYNC110  the server notices when the loop gets round to it
            await asyncio.sleep(0.01)


async def test_many_watchers_see_the_same(api: Any, server: ApiServer, service: Any) -> None:
    path = watch(resourceVersion=server.revision)
    watching = [asyncio.create_task(api.events(path, 20)) for _ in range(20)]
    await server.faults.wait_for_watches(20)
    for index in range(20):
        server.load([service(f"s{index % 3}", ports=[{"port": index + 1}])])
        await asyncio.sleep(0)
    first, *others = await asyncio.gather(*watching)
    assert len(first) == 20
    assert all(other == first for other in others)


async def test_what_happens_while_a_chunk_is_sent_comes_before_the_next_bookmark() -> None:
    storage = Storage(1000)
    options = parse_options(
        SERVICE, None, {"watch": "1", "resourceVersion": "1", "allowWatchBookmarks": "1"}, watch_list=True
    )
    seen: list[int] = []
    async with contextlib.aclosing(Watch(storage, View(SERVICE), options, bookmark_seconds=0.0).stream()) as chunks:
        async for chunk in chunks:
            seen += [
                int(event["object"]["metadata"]["resourceVersion"])
                for event in map(json.loads, chunk.splitlines())
                if event["type"] != "BOOKMARK"
            ]
            if len(seen) >= 50:
                break
            storage.write(SERVICE, {"metadata": {"name": "web", "namespace": "default"}})
    assert seen == list(range(2, 52))
