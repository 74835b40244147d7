"""The kube source against the lab's API server, which keeps revisions, bookmarks and history like a real one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from kpng.kube import AccessOptions, KubeOptions, KubeSource
from kpng.lab.apiserver import ApiServer
from kpng.model import ProblemLog, ServiceKey
from kpng.store import Store


def service(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "demo"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]} | spec}


def endpoint_slice(name: str, owner: str, *addresses: str) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": owner}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "demo", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080}],
        "endpoints": [{"addresses": [address]} for address in addresses],
    }


def node(name: str, zone: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
    }


def _equals(left: Callable[[], object], right: object) -> bool:
    return left() == right


class Rig:
    """A server and a source that follows it."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.store = Store()
        self.problems = ProblemLog()
        self._task: asyncio.Task[None] | None = None

    def follow(self) -> None:
        options = KubeOptions(AccessOptions(server=self.server.url))
        self._task = asyncio.create_task(KubeSource(options, self.problems).run(self.store))

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.server.stop()

    def names(self) -> set[str]:
        return {key.name for key, record in self.store.snapshot.services.items() if record.service}

    def addresses(self, name: str) -> set[str]:
        record = self.store.snapshot.services.get(ServiceKey("demo", name))
        return {e.addresses.v4[0] for _, e in record.endpoints()} if record else set()

    async def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@pytest.fixture(params=[True, False], ids=["watch-list", "pages"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    server = ApiServer(watch_list=request.param)
    await server.start()
    made = Rig(server)
    yield made
    await made.close()


async def test_what_is_there_and_what_changes(rig: Rig) -> None:
    rig.server.load([service("web"), endpoint_slice("web-1", "web", "10.1.0.5"), node("n1", "za")])
    rig.follow()
    await rig.until(lambda: rig.store.snapshot.complete)
    assert rig.names() == {"web"}
    assert rig.addresses("web") == {"10.1.0.5"}
    assert rig.store.snapshot.nodes["n1"].zone == "za"
    rig.server.load([endpoint_slice("web-1", "web", "10.1.0.5", "10.1.0.6"), node("n1", "zb")])
    await rig.until(lambda: rig.addresses("web") == {"10.1.0.5", "10.1.0.6"})
    await rig.until(lambda: rig.store.snapshot.nodes["n1"].zone == "zb")
    rig.server.load([endpoint_slice("web-1", "shop", "10.1.0.5")])
    await rig.until(lambda: (rig.addresses("web"), rig.addresses("shop")) == (set(), {"10.1.0.5"}))
    rig.server.delete(service("web"))
    rig.server.delete(endpoint_slice("web-1", "shop"))
    await rig.until(lambda: not rig.store.snapshot.services)


async def test_more_than_a_page(rig: Rig) -> None:
    rig.server.load(service(f"s{number}", clusterIP="None") for number in range(1201))
    rig.follow()
    await rig.until(lambda: rig.store.snapshot.complete)
    assert len(rig.names()) == 1201


async def test_a_label_that_hands_a_service_to_another_proxy_deletes_it(rig: Rig) -> None:
    rig.server.load([service("web")])
    rig.follow()
    await rig.until(lambda: rig.names() == {"web"})
    labelled = service("web")
    labelled["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "other"}
    rig.server.load([labelled])
    await rig.until(lambda: rig.names() == set())


async def test_cut_connections_lose_nothing(rig: Rig) -> None:
    rig.server.load([service("web")])
    rig.follow()
    await rig.until(lambda: rig.store.snapshot.complete)
    for number in range(5):
        rig.server.faults.drop_watches()
        rig.server.load([endpoint_slice("web-1", "web", f"10.1.0.{number + 1}")])
        expected = {f"10.1.0.{number + 1}"}
        await rig.until(partial(_equals, lambda: rig.addresses("web"), expected))
    assert rig.names() == {"web"}


async def test_a_restarted_server_that_has_forgotten_its_history(rig: Rig) -> None:
    rig.server.load([service("old"), service("stays")])
    rig.follow()
    await rig.until(lambda: rig.names() == {"old", "stays"})
    port = int(rig.server.url.rpartition(":")[2])
    await rig.server.stop()
    rig.server.delete(service("old"))
    rig.server.load([service("new")])
    rig.server.compact()
    await asyncio.sleep(0.2)
    assert rig.names() == {"old", "stays"}
    await rig.server.start(port=port)
    await rig.until(lambda: rig.names() == {"stays", "new"})


async def test_a_new_server_at_the_same_address_with_a_shorter_history(rig: Rig) -> None:
    rig.server.load(service(f"old{number}") for number in range(50))
    rig.follow()
    await rig.until(lambda: len(rig.names()) == 50)
    port = int(rig.server.url.rpartition(":")[2])
    await rig.server.stop()
    rig.server = ApiServer()
    rig.server.load([service("new")])
    await rig.server.start(port=port)
    await rig.until(lambda: rig.names() == {"new"})


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_refused_requests_are_tried_again(rig: Rig, code: int) -> None:
    rig.server.load([service("web")])
    rig.server.faults.refuse(code, 6)
    rig.follow()
    await rig.until(lambda: rig.store.snapshot.complete)
    assert rig.names() == {"web"}


async def test_churn_under_faults_ends_in_the_servers_state(rig: Rig) -> None:
    rig.follow()
    for number in range(60):
        rig.server.load(
            [
                service(f"s{number % 7}"),
                endpoint_slice(f"s{number % 7}-1", f"s{number % 7}", f"10.1.0.{number + 1}"),
            ]
        )
        if number % 5 == 0:
            rig.server.delete(service(f"s{number % 7}"))
        if number % 11 == 0:
            rig.server.faults.drop_watches()
        if number % 17 == 0:
            rig.server.compact()
        await asyncio.sleep(0.01)
    expected = {thing["metadata"]["name"] for thing in rig.server.objects("Service")}
    latest = {
        thing["metadata"]["name"].removesuffix("-1"): {e["addresses"][0] for e in thing["endpoints"]}
        for thing in rig.server.objects("EndpointSlice")
    }
    await rig.until(lambda: rig.names() == expected)
    await rig.until(lambda: all(rig.addresses(name) == addresses for name, addresses in latest.items()))
    assert len(rig.problems) == 0
