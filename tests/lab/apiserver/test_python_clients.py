"""The official Python client and its asyncio twin against the embedded server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_asyncio
import pytest
from kubernetes import client, config, watch

from kpng.lab.apiserver import ApiServer


@pytest.fixture
def official(server: ApiServer, tmp_path: Path) -> Iterator[client.ApiClient]:
    api_client = config.new_client_from_config(str(server.kubeconfig(tmp_path / "kubeconfig")))
    yield api_client
    api_client.close()


async def test_create_read_replace_patch_delete(official: Any, server: ApiServer, service: Any) -> None:
    core = client.CoreV1Api(official)

    def session() -> None:
        made = core.create_namespaced_service("default", service())
        assert made.spec.cluster_ip.startswith("10.96.")
        made.spec.session_affinity = "ClientIP"
        replaced = core.replace_namespaced_service("web", "default", made)
        assert replaced.spec.session_affinity_config.client_ip.timeout_seconds == 10800
        with pytest.raises(client.ApiException) as caught:
            core.replace_namespaced_service("web", "default", made)
        assert caught.value.status == 409
        core.patch_namespaced_service("web", "default", {"metadata": {"labels": {"a": "b"}}})
        listed = core.list_service_for_all_namespaces(label_selector="a=b")
        assert [item.metadata.name for item in listed.items] == ["web"]
        core.delete_namespaced_service("web", "default")
        with pytest.raises(client.ApiException) as caught:
            core.read_namespaced_service("web", "default")
        assert (caught.value.status, caught.value.reason) == (404, "Not Found")

    await asyncio.to_thread(session)
    assert server.objects("Service") == []


async def test_slices_are_typed(official: Any, server: ApiServer, endpoint_slice: Any) -> None:
    server.load([endpoint_slice(addresses=("10.1.0.1", "10.1.0.2"))])
    listed = await asyncio.to_thread(client.DiscoveryV1Api(official).list_endpoint_slice_for_all_namespaces)
    (only,) = listed.items
    assert [endpoint.addresses for endpoint in only.endpoints] == [["10.1.0.1"], ["10.1.0.2"]]
    assert only.ports[0].protocol == "TCP"


async def test_pages(official: Any, server: ApiServer, service: Any) -> None:
    server.load(service(f"s{index}") for index in range(5))
    core = client.CoreV1Api(official)

    def pages() -> list[list[str]]:
        found, token = [], None
        while token != "":
            page = core.list_namespaced_service("default", limit=2, _continue=token)
            found.append([item.metadata.name for item in page.items])
            token = page.metadata._continue or ""
        return found

    assert await asyncio.to_thread(pages) == [["s0", "s1"], ["s2", "s3"], ["s4"]]


async def test_watch_of_the_official_client(official: Any, server: ApiServer, service: Any) -> None:
    core = client.CoreV1Api(official)

    def follow() -> list[tuple[str, str]]:
        watcher = watch.Watch()
        seen = []
        for event in watcher.stream(core.list_namespaced_service, "default", timeout_seconds=5):
            seen.append((event["type"], event["object"].metadata.name))
            if len(seen) == 3:
                watcher.stop()
        return seen

    server.load([service("a")])
    following = asyncio.create_task(asyncio.to_thread(follow))
    await server.faults.wait_for_watches()
    server.load([service("b")])
    server.delete(service("a"))
    assert await following == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]


async def test_a_watch_of_the_asyncio_client_sees_410(server: ApiServer, service: Any, tmp_path: Path) -> None:
    settings = kubernetes_asyncio.client.Configuration()
    path = str(server.kubeconfig(tmp_path / "kubeconfig"))
    await kubernetes_asyncio.config.load_kube_config(config_file=path, client_configuration=settings)
    start = server.revision
    server.load([service("a")])
    server.compact()
    async with kubernetes_asyncio.client.ApiClient(settings) as api_client:
        core = kubernetes_asyncio.client.CoreV1Api(api_client)
        assert [item.metadata.name for item in (await core.list_service_for_all_namespaces()).items] == ["a"]
        stream = kubernetes_asyncio.watch.Watch().stream(
            core.list_service_for_all_namespaces, resource_version=str(start), timeout_seconds=5
        )
        with pytest.raises(kubernetes_asyncio.client.ApiException) as caught:
            async for _ in stream:
                pass
        assert caught.value.status == 410
