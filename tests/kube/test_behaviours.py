"""Behaviours by their ids (docs/semantics.md): what is asked of an API server, and what becomes of its events. The
source runs against the lab's server, which keeps revisions, selectors and history like a real one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from kpng.kube import AccessOptions, Filters, KubeOptions, KubeSource
from kpng.kube.convert import Converter
from kpng.kube.objects import Node as KubeNode
from kpng.kube.reflector import Reflector
from kpng.kube.resource import Resource, resources
from kpng.lab.apiserver import ApiServer
from kpng.model import ProblemLog, ServiceKey
from kpng.store import Store

Object = dict[str, Any]
PROXY_NAME = "service.kubernetes.io/service-proxy-name"


class Silent:
    """A receiver that is told nothing worth keeping."""

    def set(self, raw: object) -> str:
        return ""

    def delete(self, raw: object) -> str:
        return ""

    def discard(self) -> None: ...
    def commit(self, *, replace: bool) -> None: ...


def asked(name: str, **filters: Any) -> dict[str, str]:
    """The selectors of the first request for a resource."""
    found: Resource = next(each for each in resources(Filters(**filters)) if each.name == name)
    params = Reflector(found, Silent()).request().params
    assert params["sendInitialEvents"] == params["allowWatchBookmarks"] == "true"
    assert params["resourceVersionMatch"] == "NotOlderThan"
    return {key: value for key, value in params.items() if key.endswith("Selector")}


ASKED: list[tuple[str, str, dict[str, Any], dict[str, str]]] = [
    ("A1", "services", {}, {"labelSelector": f"!{PROXY_NAME}"}),
    ("A1-another-name", "services", {"service_proxy_name": "x"}, {"labelSelector": f"{PROXY_NAME}=x"}),
    ("A2", "endpointslices", {}, {"labelSelector": "!service.kubernetes.io/headless"}),
    (
        "A2-of-all-services",
        "endpointslices",
        {"service_proxy_name": "x"},
        {"labelSelector": "!service.kubernetes.io/headless"},
    ),
    ("A3", "nodes", {"node": "n1"}, {"fieldSelector": "metadata.name=n1"}),
    ("A3-a-brain-needs-all", "nodes", {}, {}),
    ("A4", "servicecidrs", {"node": "n1", "service_proxy_name": "x"}, {}),
]


@pytest.mark.parametrize(("name", "filters", "selectors"), [c[1:] for c in ASKED], ids=[c[0] for c in ASKED])
def test_a1_to_a5_what_is_asked(name: str, filters: dict[str, Any], selectors: dict[str, str]) -> None:
    assert asked(name, **filters) == selectors


# -- against a server --------------------------------------------------------------------------------------------


def service(name: str = "web", labels: dict[str, str] | None = None, **spec: Any) -> Object:
    metadata = {"name": name, "namespace": "demo", "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]} | spec}


def slice_of(owner: str, *addresses: str, name: str = "web-1", **fields: Any) -> Object:
    labels = {"kubernetes.io/service-name": owner}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "demo", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080}],
        "endpoints": [{"addresses": [address]} for address in addresses],
        **fields,
    }


def node(name: str, **labels: str) -> Object:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


class Followed:
    """A server and a source that follows it as ``kpng proxy`` of the node n1 does."""

    def __init__(self, server: ApiServer) -> None:
        self.server, self.store, self.problems = server, Store(), ProblemLog()
        options = KubeOptions(AccessOptions(server=server.url), Filters(node="n1"))
        self.task = asyncio.create_task(KubeSource(options, self.problems).run(self.store))

    def names(self) -> set[str]:
        return {key.name for key, record in self.store.snapshot.services.items() if record.service}

    def addresses(self, name: str = "web") -> list[str]:
        record = self.store.snapshot.services.get(ServiceKey("demo", name))
        return sorted(e.addresses.v4[0] for _, e in record.endpoints()) if record else []

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@pytest.fixture
async def followed() -> AsyncIterator[Followed]:
    server = ApiServer()
    await server.start()
    server.load([service(), slice_of("web", "10.1.0.5"), node("n1"), node("n2")])
    made = Followed(server)
    try:
        await made.until(lambda: made.store.snapshot.complete)
        yield made
    finally:
        made.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await made.task
        await server.stop()


@pytest.mark.parametrize("value", ["", "other"])
async def test_a1_the_label_takes_a_service_away_and_gives_it_back(followed: Followed, value: str) -> None:
    """To a watch with a selector it is a delete, and its slices stay without doing anything (A2)."""
    followed.server.load([service(labels={PROXY_NAME: value})])
    await followed.until(lambda: followed.names() == set())
    assert followed.addresses() == ["10.1.0.5"]
    followed.server.load([service()])
    await followed.until(lambda: followed.names() == {"web"})


async def test_a2_a_slice_that_becomes_headless_is_gone(followed: Followed) -> None:
    headless = slice_of("web", "10.1.0.5")
    headless["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
    followed.server.load([headless])
    await followed.until(lambda: followed.addresses() == [])


async def test_a3_other_nodes_are_not_heard_of(followed: Followed) -> None:
    zone = "topology.kubernetes.io/zone"
    followed.server.load([node("n2", **{zone: "zb"}), node("n1", **{zone: "za"})])
    await followed.until(lambda: followed.store.snapshot.nodes["n1"].zone == "za")
    assert set(followed.store.snapshot.nodes) == {"n1"}


async def test_a24_x4_a_slice_handed_on_leaves_nothing_behind(followed: Followed) -> None:
    followed.server.load([service("shop")])
    followed.server.load([slice_of("shop", "10.1.0.5")])
    await followed.until(lambda: followed.addresses("shop") == ["10.1.0.5"])
    assert followed.addresses("web") == []
    followed.server.delete(slice_of("shop"))
    await followed.until(lambda: followed.addresses("shop") == [])
    assert followed.addresses("web") == []


async def test_x5_a_zone_that_comes_at_any_moment_of_the_start_is_seen() -> None:
    """Thirty starts, each with the zone written at another moment: never is it lost."""
    server = ApiServer()
    await server.start()
    try:
        for number in range(30):
            server.load([service(), node("n1")])
            follow = Followed(server)
            await asyncio.sleep(number * 0.002)
            server.load([node("n1", **{"topology.kubernetes.io/zone": f"z{number}"})])
            await follow.until(
                lambda follow=follow, number=number: (  # type: ignore[misc]
                    follow.store.snapshot.complete and follow.store.snapshot.nodes["n1"].zone == f"z{number}"
                )
            )
            follow.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await follow.task
    finally:
        await server.stop()


async def test_x10_a_first_start_is_without_a_word_of_error(caplog: pytest.LogCaptureFixture) -> None:
    server = ApiServer()
    await server.start()
    try:
        follow = Followed(server)
        await follow.until(lambda: follow.store.snapshot.complete)
        follow.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await follow.task
    finally:
        await server.stop()
    assert [each.message for each in caplog.records if each.name.startswith("kpng.kube")] == []


# -- what counts of a Node ---------------------------------------------------------------------------------------


def test_k5_the_zone_is_that_one_label() -> None:
    old_label, other = "failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/region"
    for labels, zone in (
        ({old_label: "za", other: "r"}, ""),
        ({"topology.kubernetes.io/zone": "zb", old_label: "za"}, "zb"),
        ({"topology.kubernetes.io/zone": ""}, ""),
    ):
        given = {"metadata": {"name": "n1", "labels": labels}}
        found = Converter(Filters()).node(_node(given)).value
        assert found is not None
        assert found.zone == zone


def _node(given: Object) -> KubeNode:
    return msgspec.convert(given, KubeNode)
