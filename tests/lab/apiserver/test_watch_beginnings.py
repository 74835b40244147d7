"""How a watch begins, by what is asked: the table of "Semantics for watch" in the API concepts, and KEP-3157.

Before each watch there are two Services: one from before the revision that is asked for, one from after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from kpng.lab.apiserver import ApiServer

PATH = "/api/v1/namespaces/default/services"
MATCH = {"resourceVersionMatch": "NotOlderThan"}
INITIAL = {"sendInitialEvents": "true"} | MATCH
MARKED = INITIAL | {"allowWatchBookmarks": "true"}

Make = Callable[..., dict[str, Any]]


def described(events: list[dict[str, Any]]) -> list[str]:
    """Each event as "ADDED old"; the bookmark that ends the initial events as "END"."""
    shown = []
    for event in events:
        metadata = event["object"]["metadata"]
        ends = "k8s.io/initial-events-end" in metadata.get("annotations", {})
        shown.append("END" if ends else f"{event['type']} {metadata.get('name', '')}".strip())
    return shown


@pytest.mark.parametrize(
    ("query", "revision", "expected"),
    [
        # No revision, or "0": the state as synthetic ADDED events, then what changes.
        ({}, "", ["ADDED new", "ADDED old", "ADDED last"]),
        ({}, "0", ["ADDED new", "ADDED old", "ADDED last"]),
        # A revision: only what came after it.
        ({}, "between", ["ADDED new", "ADDED last"]),
        ({}, "now", ["ADDED last"]),
        # The streaming list: the state, then its end, whatever the revision.
        (MARKED, "", ["ADDED new", "ADDED old", "END", "ADDED last"]),
        (MARKED, "0", ["ADDED new", "ADDED old", "END", "ADDED last"]),
        (MARKED, "between", ["ADDED new", "ADDED old", "END", "ADDED last"]),
        (MARKED, "now", ["ADDED new", "ADDED old", "END", "ADDED last"]),
        # Who does not allow bookmarks gets no end.
        (INITIAL, "", ["ADDED new", "ADDED old", "ADDED last"]),
        # sendInitialEvents=false: no state, even without a revision.
        ({"sendInitialEvents": "false"} | MATCH, "", ["ADDED last"]),
        ({"sendInitialEvents": "false"} | MATCH, "0", ["ADDED last"]),
        ({"sendInitialEvents": "false"} | MATCH, "between", ["ADDED new", "ADDED last"]),
        # With selectors.
        (MARKED | {"fieldSelector": "metadata.name=old"}, "", ["ADDED old", "END"]),
        (MARKED | {"fieldSelector": "metadata.name=none"}, "", ["END"]),
        ({"labelSelector": "!missing"}, "between", ["ADDED new", "ADDED last"]),
    ],
)
async def test_what_comes_first(
    api: Any, server: ApiServer, service: Make, query: dict[str, str], revision: str, expected: list[str]
) -> None:
    server.load([service("old")])
    revisions = {"": "", "0": "0", "between": str(server.revision)}
    server.load([service("new")])
    revisions["now"] = str(server.revision)
    asked = {"watch": "1"} | query | ({"resourceVersion": revisions[revision]} if revision else {})
    watching = asyncio.create_task(api.events(f"{PATH}?{urlencode(asked)}", len(expected)))
    await server.faults.wait_for_watches()
    # Bookmarks come each 50 ms here: let the watch begin before something changes.
    await asyncio.sleep(0.01)
    server.load([service("last")])
    assert described(await watching) == expected


async def test_a_revision_of_the_future_is_refused_inside_of_a_streaming_list(api: Any, server: ApiServer) -> None:
    query = urlencode({"watch": "1", "resourceVersion": server.revision + 1000} | MARKED)
    (event,) = await api.events(f"{PATH}?{query}", 1)
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (504, "Timeout")
    assert event["object"]["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_the_end_of_the_state_carries_the_revision_to_go_on_from(
    api: Any, server: ApiServer, service: Make
) -> None:
    server.load([service("a")])
    path = f"{PATH}?{urlencode({'watch': '1'} | MARKED)}"
    *_, end = await api.events(path, 2)
    revision = end["object"]["metadata"]["resourceVersion"]
    assert (end["object"]["kind"], end["object"]["apiVersion"]) == ("Service", "v1")
    server.load([service("b")])
    follow = await api.events(f"{PATH}?watch=1&resourceVersion={revision}", 1)
    assert described(follow) == ["ADDED b"]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Node", "/api/v1/nodes"),
        ("Pod", "/api/v1/pods"),
        ("Namespace", "/api/v1/namespaces"),
        ("EndpointSlice", "/apis/discovery.k8s.io/v1/endpointslices"),
        ("Service", "/api/v1/services"),
    ],
)
async def test_every_kind_can_be_watched_and_hears_of_its_own_only(
    api: Any, server: ApiServer, service: Make, endpoint_slice: Make, kind: str, path: str
) -> None:
    start = server.revision
    things = [
        service("x"),
        endpoint_slice("x"),
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x"}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": "default"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}},
    ]
    server.load(things)
    for thing in things:
        server.delete(thing)
    query = urlencode({"watch": "1", "resourceVersion": start, "allowWatchBookmarks": "1"})
    changed = ["ADDED x", "MODIFIED x", "DELETED x"] if kind == "Namespace" else ["ADDED x", "DELETED x"]
    events = await api.events(f"{path}?{query}", len(changed) + 1)
    assert described(events) == [*changed, "BOOKMARK"]
    assert {event["object"]["kind"] for event in events} == {kind}


async def test_revisions_grow_over_all_kinds(
    api: Any, server: ApiServer, service: Make, endpoint_slice: Make
) -> None:
    start = server.revision
    for number in range(3):
        server.load([service(f"s{number}"), endpoint_slice(f"e{number}")])
    seen = []
    for path in (PATH, "/apis/discovery.k8s.io/v1/endpointslices"):
        for event in await api.events(f"{path}?watch=1&resourceVersion={start}", 3):
            seen.append(int(event["object"]["metadata"]["resourceVersion"]))
    assert sorted(seen) == list(range(start + 1, start + 7))


async def test_a_deletion_is_told_with_the_last_state_and_a_revision_of_its_own(
    api: Any, server: ApiServer, service: Make
) -> None:
    server.load([service(sessionAffinity="ClientIP")])
    (last,) = server.objects("Service")
    start = server.revision
    server.delete(service())
    (event,) = await api.events(f"{PATH}?watch=1&resourceVersion={start}", 1)
    assert event["type"] == "DELETED"
    assert event["object"]["spec"] == last["spec"]
    assert event["object"]["metadata"]["uid"] == last["metadata"]["uid"]
    assert int(event["object"]["metadata"]["resourceVersion"]) == start + 1
