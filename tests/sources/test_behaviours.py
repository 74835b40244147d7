"""Behaviours by their ids (docs/semantics.md) where the cluster is a folder of manifests that changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kpng.kube.convert import Filters
from kpng.localize import LocalView
from kpng.model import LocalNode, LocalService, ProblemLog, ServiceKey
from kpng.sources.file import FileSource
from kpng.store import Store

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: demo}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80, targetPort: web}], MORE}
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: NAME, namespace: demo, labels: {kubernetes.io/service-name: OWNER}}
addressType: IPv4
ports: [{name: http, port: PORT}]
endpoints: [{addresses: [ADDRESS], nodeName: n1}]
"""
SERVICE_CIDR = """
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: NAME}
spec: {cidrs: [CIDR]}
"""


def service(name: str = "web", more: str = "") -> str:
    return SERVICE.replace("NAME", name).replace(", MORE", f", {more}" if more else "")


def slice_of(owner: str, name: str = "web-1", address: str = "10.1.0.1", port: int = 8080) -> str:
    text = SLICE.replace("NAME", name).replace("OWNER", owner)
    return text.replace("ADDRESS", address).replace("PORT", str(port))


def service_cidr(name: str, cidr: str) -> str:
    return SERVICE_CIDR.replace("NAME", name).replace("CIDR]", f"{cidr}]")


class Followed:
    """A folder, followed; and what the node n1 is told."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self._folder = folder
        self.store, self.problems = Store(), ProblemLog()
        self.view = LocalView(self.store, "n1")
        self.services: dict[str, LocalService] = {}
        self.node = LocalNode(name="n1")
        self.task = asyncio.create_task(FileSource(str(folder), self.problems, **options).run(self.store))

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self._folder / f".{name}").write_text(text)
            (self._folder / f".{name}").rename(self._folder / f"{name}.yaml")

    def remove(self, name: str) -> None:
        (self._folder / f"{name}.yaml").unlink()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._take(await self.view.next())

    def _take(self, changes: Any) -> None:
        self.node = changes.node or self.node
        for key, change in changes.changes.items():
            self.services.pop(key.name, None)
            if change.new is not None:
                self.services[key.name] = change.new

    def used(self, name: str = "web") -> list[str]:
        """``address:port`` of each endpoint of the port http."""
        found = self.services.get(name)
        if found is None:
            return []
        (mapping,) = found.service.ports
        return sorted(f"{e.addresses.v4[0]}:{e.port_for(mapping)}" for e in found.endpoints.values())


@contextlib.asynccontextmanager
async def following(folder: Path, **options: Any) -> AsyncIterator[Followed]:
    made = Followed(folder, **options)
    try:
        yield made
    finally:
        made.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await made.task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "service.yaml").write_text(service())
    (tmp_path / "slice.yaml").write_text(slice_of("web"))
    return tmp_path


async def test_a20_a_rolling_update_that_changes_the_containers_port(folder: Path) -> None:
    async with following(folder) as followed:
        await followed.until(lambda: followed.used() == ["10.1.0.1:8080"])
        followed.write(new=slice_of("web", "web-2", "10.1.0.2", 9090))
        await followed.until(lambda: followed.used() == ["10.1.0.1:8080", "10.1.0.2:9090"])
        followed.remove("slice")
        await followed.until(lambda: followed.used() == ["10.1.0.2:9090"])


async def test_a24_x4_a_slice_whose_label_changes(folder: Path) -> None:
    (folder / "shop.yaml").write_text(service("shop").replace("10.96.0.1", "10.96.0.2"))
    async with following(folder) as followed:
        await followed.until(lambda: followed.used() == ["10.1.0.1:8080"])
        followed.write(slice=slice_of("shop"))
        await followed.until(lambda: followed.used("shop") == ["10.1.0.1:8080"])
        assert followed.used("web") == []
        followed.remove("slice")
        await followed.until(lambda: followed.used("shop") == [])


@pytest.mark.parametrize("counts", [True, False])
async def test_a10_external_ips_may_be_switched_off(folder: Path, counts: bool) -> None:
    (folder / "service.yaml").write_text(service(more="externalIPs: [198.51.100.1], externalTrafficPolicy: Local"))
    async with following(folder, filters=Filters(external_ips=counts)) as followed:
        await followed.until(lambda: "web" in followed.services)
        of = followed.services["web"].service
        assert (bool(of.external_ips), of.external_traffic_local) == (counts, counts)


async def test_a6_a_service_that_becomes_headless_or_external_name(folder: Path) -> None:
    async with following(folder) as followed:
        await followed.until(lambda: followed.used() == ["10.1.0.1:8080"])
        followed.write(service=service(more="type: ExternalName, externalName: x.example"))
        await followed.until(lambda: "web" not in followed.services)
        followed.write(service=service().replace("10.96.0.1", "None"))
        await followed.until(lambda: "web" in followed.services)
        assert followed.services["web"].service.headless
        assert not followed.services["web"].service.cluster_ips.all()
        assert ServiceKey("demo", "web") in followed.store.snapshot.services


async def test_a4_x1_x13_service_cidrs_of_manifests_and_of_the_option(folder: Path) -> None:
    async with following(folder, service_cidrs=["10.96.0.0/16"]) as followed:
        await followed.until(lambda: followed.node.service_cidrs == ("10.96.0.0/16",))
        followed.write(cidr=service_cidr("kubernetes", "10.96.0.0/16"), more=service_cidr("more", "10.97.0.0/16"))
        await followed.until(lambda: followed.node.service_cidrs == ("10.96.0.0/16", "10.97.0.0/16"))
        followed.remove("cidr")
        followed.remove("more")
        await followed.until(lambda: followed.node.service_cidrs == ("10.96.0.0/16",))


async def test_a17_what_is_wrong_is_named_and_the_rest_goes_on(folder: Path) -> None:
    (folder / "stray.yaml").write_text(slice_of("web", "stray").replace("kubernetes.io/service-name: web", ""))
    async with following(folder) as followed:
        await followed.until(lambda: followed.used() == ["10.1.0.1:8080"])
        (problem,) = followed.problems.current
        assert "stray.yaml" in str(problem)
        assert "EndpointSlice demo/stray: metadata.labels: no kubernetes.io/service-name" in str(problem)
