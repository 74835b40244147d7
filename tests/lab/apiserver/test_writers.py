"""Several writers of one object: optimistic locking, and what server-side apply makes of lists and maps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kpng.lab.apiserver import ApiServer
from kpng.lab.apiserver.apply import apply, merged, owned_paths
from kpng.lab.apiserver.registry import NODE, POD, SERVICE

SERVICES = "/api/v1/namespaces/default/services"
NODES = "/api/v1/nodes"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"

Make = Callable[..., dict[str, Any]]


async def increment(api: Any, path: str) -> int:
    """Read, add one, write, again and again until no one else was faster; returns how often that was."""
    for lost in range(1000):
        _, thing = await api("GET", path)
        notes = thing["metadata"].setdefault("annotations", {})
        notes["count"] = str(int(notes.get("count", "0")) + 1)
        await asyncio.sleep(0)
        code, answer = await api("PUT", path, thing)
        if code == 200:
            return lost
        assert (code, answer["reason"]) == (409, "Conflict")
    raise AssertionError("never the fastest")


async def test_no_increment_is_lost(api: Any, server: ApiServer, service: Make) -> None:
    server.load([service()])
    lost = await asyncio.gather(*(increment(api, f"{SERVICES}/web") for _ in range(12)))
    (stored,) = server.objects("Service")
    assert stored["metadata"]["annotations"]["count"] == "12"
    assert sum(lost) > 0, "the writers never met: this test shows nothing"


async def test_without_a_version_the_last_writer_wins(api: Any, server: ApiServer, service: Make) -> None:
    server.load([service()])
    changes = [service(ports=[{"port": number}]) for number in range(1, 9)]
    answers = await asyncio.gather(*(api("PUT", f"{SERVICES}/web", change) for change in changes))
    assert {code for code, _ in answers} == {200}
    last = max((thing for _, thing in answers), key=lambda thing: int(thing["metadata"]["resourceVersion"]))
    assert (await api("GET", f"{SERVICES}/web"))[1] == last


async def test_patches_of_different_fields_do_not_meet(api: Any, server: ApiServer) -> None:
    server.load([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}])
    patches = [api("PATCH", f"{NODES}/n", {"metadata": {"labels": {f"l{i}": "x"}}}, kind=MERGE) for i in range(10)]
    assert {code for code, _ in await asyncio.gather(*patches)} == {200}
    (node,) = server.objects("Node")
    assert node["metadata"]["labels"] == {f"l{number}": "x" for number in range(10)}


@pytest.mark.parametrize("fresh", [True, False])
async def test_a_patch_may_name_the_version_it_means(
    api: Any, server: ApiServer, service: Make, fresh: bool
) -> None:
    server.load([service()])
    version = str(server.revision) if fresh else "1"
    patch = {"metadata": {"resourceVersion": version, "labels": {"a": "b"}}}
    code, _ = await api("PATCH", f"{SERVICES}/web", patch, kind=MERGE)
    assert code == (200 if fresh else 409)
    test = [
        {"op": "test", "path": "/metadata/labels/a", "value": "b"},
        {"op": "remove", "path": "/metadata/labels/a"},
    ]
    code, _ = await api("PATCH", f"{SERVICES}/web", test, kind=JSON_PATCH)
    assert code == (200 if fresh else 422)


@pytest.mark.parametrize(
    ("kind", "live", "config", "expected"),
    [
        (SERVICE, {"spec": {"a": 1}}, {"spec": {"b": 2}}, {"spec": {"a": 1, "b": 2}}),
        (SERVICE, {"spec": {"a": {"x": 1}}}, {"spec": {"a": {"y": 2}}}, {"spec": {"a": {"x": 1, "y": 2}}}),
        # Associative lists are merged by their keys: a port by number and protocol, which is TCP if not said.
        (
            SERVICE,
            {"spec": {"ports": [{"port": 1, "protocol": "TCP", "nodePort": 9}, {"port": 1, "protocol": "UDP"}]}},
            {"spec": {"ports": [{"port": 1, "name": "a"}]}},
            {
                "spec": {
                    "ports": [
                        {"port": 1, "protocol": "TCP", "nodePort": 9, "name": "a"},
                        {"port": 1, "protocol": "UDP"},
                    ]
                }
            },
        ),
        # Sets keep what others put in.
        (
            NODE,
            {"spec": {"podCIDRs": ["a"]}},
            {"spec": {"podCIDRs": ["b", "a"]}},
            {"spec": {"podCIDRs": ["a", "b"]}},
        ),
        # Atomic lists are replaced whole.
        (
            SERVICE,
            {"spec": {"externalIPs": ["a", "b"]}},
            {"spec": {"externalIPs": ["c"]}},
            {"spec": {"externalIPs": ["c"]}},
        ),
        (
            POD,
            {"spec": {"containers": [{"name": "a", "image": "1", "args": ["x", "y"]}]}},
            {"spec": {"containers": [{"name": "a", "args": ["z"]}, {"name": "b", "image": "2"}]}},
            {"spec": {"containers": [{"name": "a", "image": "1", "args": ["z"]}, {"name": "b", "image": "2"}]}},
        ),
    ],
)
def test_what_is_applied_is_laid_over_what_is_there(kind: Any, live: Any, config: Any, expected: Any) -> None:
    assert merged(kind, live, config) == expected


@pytest.mark.parametrize(
    ("config", "paths"),
    [
        ({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "a", "namespace": "b"}}, set()),
        ({"metadata": {"labels": {"x/y": "1"}}}, {("f:metadata", "f:labels", "f:x/y")}),
        ({"spec": {"selector": {}}}, {("f:spec", "f:selector")}),
        (
            {"spec": {"ports": [{"port": 1}]}},
            {
                ("f:spec", "f:ports", 'k:{"port":1,"protocol":"TCP"}', "."),
                ("f:spec", "f:ports", 'k:{"port":1,"protocol":"TCP"}', "f:port"),
            },
        ),
        ({"spec": {"externalIPs": ["a"]}}, {("f:spec", "f:externalIPs")}),
    ],
)
def test_what_a_manager_owns(config: dict[str, Any], paths: set[tuple[str, ...]]) -> None:
    assert owned_paths(SERVICE, config) == paths


def test_a_third_manager_takes_over_and_lets_go() -> None:
    base = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}}
    one = base | {"spec": {"selector": {"a": "1"}, "ports": [{"port": 80, "protocol": "TCP"}]}}
    two = base | {"spec": {"selector": {"b": "2"}}}
    thing = apply(SERVICE, apply(SERVICE, base, one, "one", False), two, "two", False)
    thing = apply(SERVICE, thing, base | {"spec": {"selector": {"a": "3"}}}, "three", True)
    assert thing["spec"]["selector"] == {"a": "3", "b": "2"}
    assert [entry["manager"] for entry in thing["metadata"]["managedFields"]] == ["one", "three", "two"]
    thing = apply(SERVICE, thing, base, "three", False)
    assert thing["spec"]["selector"] == {"b": "2"}, "nobody owns a any more: forcing took it away from one"
    thing = apply(SERVICE, thing, base, "one", False)
    assert thing["spec"].get("ports", []) == []
    thing = apply(SERVICE, thing, base, "two", False)
    assert not thing["spec"].get("selector")
