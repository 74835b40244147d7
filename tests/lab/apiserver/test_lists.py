"""Lists: selectors, pages, consistent snapshots."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from kpng.lab.apiserver import ApiServer

PATH = "/api/v1/namespaces/default/services"


def names(listing: Any) -> list[str]:
    return [item["metadata"]["name"] for item in listing["items"]]


@pytest.fixture
def five(server: ApiServer, service: Any) -> None:
    for index, name in enumerate("abcde"):
        thing = service(name, clusterIP=f"10.96.0.{index + 1}")
        thing["metadata"]["labels"] = {"number": str(index), "half": "first" if index < 2 else "second"}
        server.load([thing])


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "abcde"),
        ({"labelSelector": "half=first"}, "ab"),
        ({"labelSelector": "half!=first"}, "cde"),
        ({"labelSelector": "number in (1, 3)"}, "bd"),
        ({"labelSelector": "number notin (1,3),half"}, "ace"),
        ({"labelSelector": "!half"}, ""),
        ({"labelSelector": "number>2"}, "de"),
        ({"labelSelector": "number<1"}, "a"),
        ({"fieldSelector": "metadata.name=c"}, "c"),
        ({"fieldSelector": "metadata.name!=c,metadata.namespace=default"}, "abde"),
        ({"fieldSelector": "spec.clusterIP=10.96.0.4"}, "d"),
        ({"fieldSelector": "metadata.name=c", "labelSelector": "half=first"}, ""),
        ({"resourceVersion": "0"}, "abcde"),
        ({"resourceVersion": "1", "resourceVersionMatch": "NotOlderThan"}, "abcde"),
    ],
)
async def test_selection(api: Any, query: dict[str, str], expected: str) -> None:
    code, listing = await api("GET", f"{PATH}?{urlencode(query)}")
    assert (code, names(listing)) == (200, list(expected))


async def test_an_empty_list(api: Any, server: ApiServer) -> None:
    _, listing = await api("GET", "/apis/discovery.k8s.io/v1/endpointslices")
    assert listing == {
        "kind": "EndpointSliceList",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"resourceVersion": str(server.revision)},
        "items": [],
    }


@pytest.mark.usefixtures("five")
async def test_pages_show_one_state_whatever_happens_between(api: Any, server: ApiServer, service: Any) -> None:
    _, first = await api("GET", f"{PATH}?limit=2")
    assert (names(first), first["metadata"]["remainingItemCount"]) == (["a", "b"], 3)
    server.delete(service("d"))
    server.load([service("cc"), service("c", clusterIP="10.96.0.3", sessionAffinity="ClientIP")])
    _, second = await api("GET", f"{PATH}?" + urlencode({"limit": 2, "continue": first["metadata"]["continue"]}))
    assert names(second) == ["c", "d"]
    assert second["items"][0]["spec"]["sessionAffinity"] == "None"
    _, third = await api("GET", f"{PATH}?" + urlencode({"limit": 2, "continue": second["metadata"]["continue"]}))
    assert names(third) == ["e"]
    assert "continue" not in third["metadata"]
    assert first["metadata"]["resourceVersion"] == third["metadata"]["resourceVersion"]


@pytest.mark.usefixtures("five")
async def test_exact_lists_and_compaction(api: Any, server: ApiServer, service: Any) -> None:
    revision = server.revision
    _, page = await api("GET", f"{PATH}?limit=1")
    server.load([service("f")])
    query = urlencode({"resourceVersion": revision, "resourceVersionMatch": "Exact"})
    assert names((await api("GET", f"{PATH}?{query}"))[1]) == list("abcde")
    server.compact()
    code, status = await api("GET", f"{PATH}?{query}")
    assert (code, status["reason"]) == (410, "Expired")
    code, status = await api("GET", f"{PATH}?" + urlencode({"limit": 1, "continue": page["metadata"]["continue"]}))
    assert (code, status["reason"]) == (410, "Expired")
    assert "continue parameter is too old" in status["message"]


async def test_pods_by_node(api: Any, server: ApiServer) -> None:
    for name, node in (("a", "n1"), ("b", "n2"), ("c", "")):
        spec = {"nodeName": node} if node else {}
        server.load([{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}])
    for node, expected in (("n1", ["a"]), ("n2", ["b"]), ("", ["c"])):
        _, listing = await api("GET", "/api/v1/pods?" + urlencode({"fieldSelector": f"spec.nodeName={node}"}))
        assert names(listing) == expected
