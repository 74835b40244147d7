"""Lists in pages: together they are one state, whatever happens between the requests."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from kpng.lab.apiserver import ApiServer

PATH = "/api/v1/namespaces/default/services"
EVERYWHERE = "/api/v1/services"

Make = Callable[..., dict[str, Any]]


def names(listing: Any) -> list[str]:
    return [item["metadata"]["name"] for item in listing["items"]]


async def pages(api: Any, path: str, limit: int, **query: str) -> AsyncIterator[Any]:
    """Each page of a list, as a client asks for them one after the other."""
    token = ""
    while True:
        asked = query | {"limit": str(limit)} | ({"continue": token} if token else {})
        code, listing = await api("GET", f"{path}?{urlencode(asked)}")
        assert code == 200, listing
        yield listing
        token = listing["metadata"].get("continue", "")
        if not token:
            return


def fill(server: ApiServer, service: Make, count: int) -> None:
    for index in range(count):
        thing = service(f"s{index:02}")
        thing["metadata"]["labels"] = {"parity": "even" if index % 2 == 0 else "odd"}
        server.load([thing])


def disturb(server: ApiServer, service: Make, dice: random.Random) -> None:
    """Make, change or delete a Service, somewhere in the order."""
    present = [thing["metadata"]["name"] for thing in server.objects("Service")]
    match dice.choice(["make", "change", "delete"]):
        case "make":
            server.load([service(f"s{dice.randrange(100):02}", ports=[{"port": dice.randrange(1, 9)}])])
        case "change" if present:
            server.load([service(dice.choice(present), ports=[{"port": dice.randrange(10, 99)}])])
        case "delete" if present:
            server.delete(service(dice.choice(present)))


@pytest.mark.parametrize("seed", range(12))
async def test_pages_are_the_list_of_the_moment_of_the_first(
    api: Any, server: ApiServer, service: Make, seed: int
) -> None:
    dice = random.Random(seed)
    fill(server, service, 17)
    _, expected = await api("GET", PATH)
    found: list[Any] = []
    revisions = set()
    async for page in pages(api, PATH, dice.randint(1, 6)):
        found += page["items"]
        revisions.add(page["metadata"]["resourceVersion"])
        for _ in range(dice.randint(0, 4)):
            disturb(server, service, dice)
    assert found == expected["items"]
    assert revisions == {expected["metadata"]["resourceVersion"]}


@pytest.mark.parametrize(
    ("count", "limit", "sizes"),
    [
        (0, 5, [0]),
        (1, 5, [1]),
        (5, 5, [5]),
        (6, 5, [5, 1]),
        (10, 5, [5, 5]),
        (11, 5, [5, 5, 1]),
        (3, 1, [1, 1, 1]),
        (3, 500, [3]),
    ],
)
async def test_sizes_and_what_is_left(
    api: Any, server: ApiServer, service: Make, count: int, limit: int, sizes: list[int]
) -> None:
    fill(server, service, count)
    found = [page async for page in pages(api, PATH, limit)]
    assert [len(page["items"]) for page in found] == sizes
    left = [page["metadata"].get("remainingItemCount", 0) for page in found]
    assert left == [count - sum(sizes[: index + 1]) for index in range(len(sizes))]


async def test_a_selector_holds_for_every_page_and_hides_what_is_left(
    api: Any, server: ApiServer, service: Make
) -> None:
    """The real server does not count behind a selector (KEP-3157's remainingItemCount is then unset)."""
    fill(server, service, 9)
    found = [page async for page in pages(api, PATH, 2, labelSelector="parity=even")]
    assert [names(page) for page in found] == [["s00", "s02"], ["s04", "s06"], ["s08"]]
    assert not any("remainingItemCount" in page["metadata"] for page in found)


async def test_the_order_is_by_namespace_then_name(api: Any, server: ApiServer, service: Make) -> None:
    for namespace, name in (("b", "a"), ("a", "z"), ("a", "b"), ("default", "c")):
        thing = service(name)
        thing["metadata"]["namespace"] = namespace
        server.load([thing])
    found = [page async for page in pages(api, EVERYWHERE, 1)]
    keys = [(page["items"][0]["metadata"]["namespace"], names(page)[0]) for page in found]
    assert keys == [("a", "b"), ("a", "z"), ("b", "a"), ("default", "c")]


async def test_a_token_outlives_the_object_it_ends_at(api: Any, server: ApiServer, service: Make) -> None:
    fill(server, service, 5)
    walk = pages(api, PATH, 2)
    assert names(await anext(walk)) == ["s00", "s01"]
    server.delete(service("s01"))
    server.delete(service("s02"))
    assert names(await anext(walk)) == ["s02", "s03"]
    assert names(await anext(walk)) == ["s04"]


async def test_a_token_after_compaction_says_to_start_again(api: Any, server: ApiServer, service: Make) -> None:
    fill(server, service, 5)
    _, first = await api("GET", f"{PATH}?limit=2")
    server.load([service("late")])
    server.compact()
    query = urlencode({"limit": 2, "continue": first["metadata"]["continue"]})
    code, status = await api("GET", f"{PATH}?{query}")
    assert (code, status["reason"], status["code"]) == (410, "Expired", 410)
    found = [name async for page in pages(api, PATH, 2) for name in names(page)]
    assert found == ["late", "s00", "s01", "s02", "s03", "s04"]


async def test_a_watch_from_a_lists_revision_misses_nothing(api: Any, server: ApiServer, service: Make) -> None:
    """List in pages while things change, then watch from the pages' revision: that is how informers start."""
    fill(server, service, 6)
    objects: dict[str, Any] = {}
    revision = ""
    changes = iter([service("new"), service("s00", ports=[{"port": 99}]), service("s05", ports=[{"port": 98}])])
    async for page in pages(api, PATH, 2):
        objects |= {item["metadata"]["name"]: item for item in page["items"]}
        revision = page["metadata"]["resourceVersion"]
        server.load([next(changes)])
    server.delete(service("s03"))
    for event in await api.events(f"{PATH}?watch=1&resourceVersion={revision}", 4):
        name = event["object"]["metadata"]["name"]
        if event["type"] == "DELETED":
            del objects[name]
        else:
            objects[name] = event["object"]
    _, now = await api("GET", PATH)
    assert sorted(objects.items()) == [(item["metadata"]["name"], item) for item in now["items"]]


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ({"limit": "-1"}, 400, "limit must be a number"),
        ({"limit": "1.5"}, 400, "limit must be a number"),
        ({"continue": "%%%"}, 400, "continue key is not valid"),
        ({"continue": "bm90IGpzb24="}, 400, "continue key is not valid"),
        ({"continue": "e30="}, 400, "continue key is not valid"),
        ({"resourceVersion": "-5"}, 400, "resourceVersion must be a number"),
        ({"resourceVersion": "9999999"}, 504, "Too large resource version"),
        (
            {"resourceVersion": "0", "resourceVersionMatch": "Exact"},
            422,
            'resourceVersionMatch "exact" is forbidden',
        ),
        ({"resourceVersionMatch": "NotOlderThan"}, 422, "forbidden unless resourceVersion is provided"),
    ],
)
async def test_questions_that_have_no_answer(api: Any, query: dict[str, str], code: int, message: str) -> None:
    answered, status = await api("GET", f"{PATH}?{urlencode(query)}")
    assert (answered, status["status"]) == (code, "Failure")
    assert message in status["message"]


@pytest.mark.parametrize("match", ["", "Exact", "NotOlderThan"])
@pytest.mark.parametrize("back", [0, 1, 2, 3])
async def test_how_old_a_list_may_be(api: Any, server: ApiServer, service: Make, match: str, back: int) -> None:
    """Exact is that state; without a match, or NotOlderThan, it is that state or a later one."""
    base = server.revision
    for number in range(4):
        server.load([service(f"s{number}")])
    asked = server.revision - back
    query = {"resourceVersion": str(asked)} | ({"resourceVersionMatch": match} if match else {})
    _, listing = await api("GET", f"{PATH}?{urlencode(query)}")
    shown = int(listing["metadata"]["resourceVersion"])
    assert shown == (asked if match == "Exact" else server.revision)
    assert len(listing["items"]) == shown - base
