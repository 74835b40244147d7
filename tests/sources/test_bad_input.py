"""Bad input, as the same table through both doors: a file, and an API server that sends it.

Every fault gives one line that names origin, object and field, is counted, and leaves everything else working.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from kpng.kube import AccessOptions, KubeOptions, KubeSource
from kpng.localize import Auditor
from kpng.model import ProblemLog, ServiceKey
from kpng.sources import Source
from kpng.sources.file import FileSource
from kpng.store import Store

Object = dict[str, Any]


def service(name: str | None = "odd", **spec: Any) -> Object:
    metadata = {"namespace": "demo"} | ({"name": name} if name else {})
    spec = {"clusterIP": "10.96.0.20", "ports": [{"name": "http", "port": 80}]} | spec
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def endpoint_slice(
    name: str = "odd-1", owner: str = "odd", address: str = "10.1.0.9", port: str = "http", **fields: Any
) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "demo", "labels": {"kubernetes.io/service-name": owner}},
        "addressType": "IPv4",
        "ports": [{"name": port, "port": 8080}],
        "endpoints": [{"addresses": [address]}],
    } | fields


def node(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


GOOD = [service("web", clusterIP="10.96.0.10"), endpoint_slice("web-1", "web", "10.1.0.5"), node("n1")]

CASES: list[tuple[str, list[Object], list[str]]] = [
    ("no name", [service(None)], ["{origin}: Service demo/?: metadata.name: not set"]),
    (
        "a name that would break out of a path",
        [service("../x")],
        ["{origin}: Service demo/../x: metadata.name: '../x' is not a Kubernetes name"],
    ),
    (
        "a wrong IP",
        [service(clusterIP="10.96.0.400")],
        ["{origin}: Service demo/odd: spec.clusterIP: '10.96.0.400' is not an IP address"],
    ),
    (
        "a wrong IP among others",
        [service(externalIPs=["192.0.2.1", "192.0.2"])],
        ["{origin}: Service demo/odd: spec.externalIPs[1]: '192.0.2' is not an IP address"],
    ),
    (
        "a cluster IP where the cloud keeps its secrets",
        [service(clusterIP="169.254.169.254")],
        [
            "{origin}: Service demo/odd: spec.clusterIP: 169.254.169.254 is a special address, which a service "
            "may not have"
        ],
    ),
    (
        "a port of 70000",
        [service(ports=[{"port": 70000}])],
        ["{origin}: Service demo/odd: spec.ports[0].port: 70000 is not a port number (1 to 65535)"],
    ),
    (
        "a port of 70000 beside a good one",
        [service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 70000}])],
        ["{origin}: Service demo/odd: spec.ports[1].nodePort: 70000 is not a port number (1 to 65535)"],
    ),
    (
        "a port that is a word",
        [service(ports=[{"port": "http"}])],
        ["{origin}: Service demo/odd: spec.ports[0].port: expected int, got str"],
    ),
    (
        "an endpoint's port of 70000",
        [endpoint_slice(ports=[{"port": 70000}])],
        ["{origin}: EndpointSlice demo/odd-1: ports[0].port: 70000 is not a port number (1 to 65535)"],
    ),
    (
        "a protocol that is none",
        [service(ports=[{"port": 80, "protocol": "ICMP"}])],
        ["{origin}: Service demo/odd: spec.ports[0].protocol: 'ICMP' is not a protocol (TCP, UDP, SCTP)"],
    ),
    (
        "an endpoint at loopback",
        [endpoint_slice(address="127.0.0.1")],
        [
            "{origin}: EndpointSlice demo/odd-1: endpoints[0].addresses[0]: 127.0.0.1 is a loopback address, which "
            "an endpoint may not have"
        ],
    ),
    (
        "an endpoint at link-local",
        [endpoint_slice(address="169.254.10.1")],
        [
            "{origin}: EndpointSlice demo/odd-1: endpoints[0].addresses[0]: 169.254.10.1 is a link-local address, "
            "which an endpoint may not have"
        ],
    ),
    (
        "an endpoint of the other family",
        [endpoint_slice(address="fd00::1")],
        ["{origin}: EndpointSlice demo/odd-1: endpoints[0].addresses[0]: fd00::1 is not of addressType IPv4"],
    ),
    (
        "a slice of no service",
        [endpoint_slice(metadata={"name": "odd-1", "namespace": "demo"})],
        [
            "{origin}: EndpointSlice demo/odd-1: metadata.labels: no kubernetes.io/service-name, so it belongs to "
            "no service"
        ],
    ),
    (
        "a slice of an unknown type",
        [endpoint_slice(addressType="IPX")],
        ["{origin}: EndpointSlice demo/odd-1: addressType: 'IPX' is not known (IPv4, IPv6, FQDN)"],
    ),
    (
        "duplicate cluster IPs",
        [service("zz", clusterIP="10.96.0.10")],
        ["Service demo/zz: spec.clusterIPs: 10.96.0.10 is also the cluster IP of Service demo/web, which keeps it"],
    ),
    (
        "a named port that no endpoint has",
        [service(), endpoint_slice(port="htpp")],
        ["Service demo/odd: spec.ports[0].name: no endpoint has a port named 'http' (TCP)"],
    ),
    ("a node without a name", [node("")], ["{origin}: Node ?: metadata.name: not set"]),
    (
        "several at once",
        [service(clusterIP="x", ports=[{"port": 0}]), endpoint_slice(address="224.0.0.1")],
        [
            "{origin}: EndpointSlice demo/odd-1: endpoints[0].addresses[0]: 224.0.0.1 is a multicast address, "
            "which an endpoint may not have",
            "{origin}: Service demo/odd: spec.clusterIP: 'x' is not an IP address",
            "{origin}: Service demo/odd: spec.ports[0].port: 0 is not a port number (1 to 65535)",
        ],
    ),
]
IDS = [title for title, _, _ in CASES]


# -- two doors -------------------------------------------------------------------------------------


class Door:
    """A way in: ``give`` makes these all the objects that there are."""

    def __init__(self, origin: str, source: Callable[[ProblemLog], Source]) -> None:
        self.origin = origin
        self.source = source

    def give(self, objects: list[Object]) -> None:
        assert not objects


class FileDoor(Door):
    def __init__(self, path: Path) -> None:
        super().__init__(str(path), lambda problems: FileSource(str(path), problems))
        self._path = path

    def give(self, objects: list[Object]) -> None:
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(yaml.safe_dump_all(objects))
        temporary.rename(self._path)


KINDS = {"services": "Service", "endpointslices": "EndpointSlice", "nodes": "Node"}


class ServerDoor(Door):
    """An API server that validates nothing. What is given anew goes out as a list after 410 Gone."""

    def __init__(self, url: str) -> None:
        super().__init__(url, lambda problems: KubeSource(KubeOptions(AccessOptions(server=url)), problems))
        self._objects: list[Object] = []
        self._given = asyncio.Event()

    def give(self, objects: list[Object]) -> None:
        self._objects = deepcopy(objects)
        self._given.set()
        self._given = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        kind = KINDS[request.match_info["resource"]]
        response = web.StreamResponse()
        await response.prepare(request)
        given = self._given
        for thing in self._objects:
            if thing["kind"] == kind:
                await _send(response, "ADDED", thing)
        end = {"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}}
        await _send(response, "BOOKMARK", {"metadata": end})
        await given.wait()
        await _send(response, "ERROR", {"code": 410, "message": "too old resource version"})
        return response


async def _send(response: web.StreamResponse, type_: str, thing: Object) -> None:
    await response.write(json.dumps({"type": type_, "object": thing}).encode() + b"\n")


@contextlib.asynccontextmanager
async def server_door() -> AsyncIterator[ServerDoor]:
    listener = socket.create_server(("127.0.0.1", 0))
    door = ServerDoor(f"http://127.0.0.1:{listener.getsockname()[1]}")
    app = web.Application()
    for group in ("/api/v1", "/apis/discovery.k8s.io/v1"):
        app.router.add_get(group + "/{resource}", door.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    try:
        yield door
    finally:
        await runner.cleanup()


@pytest.fixture(params=["file", "kube"])
async def door(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Door]:
    if request.param == "file":
        yield FileDoor(tmp_path / "input.yaml")
        return
    async with server_door() as opened:
        yield opened


class House:
    """A store filled through a door, and audited."""

    def __init__(self, door: Door) -> None:
        self.problems = ProblemLog()
        self.store = Store()
        self._door = door
        self._auditor = Auditor(self.store, self.problems)

    def lines(self) -> list[str]:
        self._auditor.advance(self.store.snapshot)
        return [str(problem) for problem in self.problems.current]

    def good_work(self) -> bool:
        """Whether the good objects are there, as they should be."""
        record = self.store.snapshot.services.get(ServiceKey("demo", "web"))
        if record is None or record.service is None or "n1" not in self.store.snapshot.nodes:
            return False
        return [info.addresses.v4 for _, info in record.endpoints()] == [("10.1.0.5",)]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def filled(door: Door, objects: list[Object]) -> AsyncIterator[House]:
    door.give(objects)
    house = House(door)
    task = asyncio.create_task(door.source(house.problems).run(house.store))
    try:
        await house.until(lambda: house.store.snapshot.complete)
        yield house
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(("objects", "lines"), [case[1:] for case in CASES], ids=IDS)
async def test_a_fault_is_one_line_and_the_rest_works(door: Door, objects: list[Object], lines: list[str]) -> None:
    async with filled(door, [*objects, *GOOD]) as house:
        assert house.lines() == [line.format(origin=door.origin) for line in lines]
        assert house.good_work()
        assert house.problems.total == len(lines)


@pytest.mark.parametrize(("objects", "lines"), [case[1:] for case in CASES], ids=IDS)
async def test_a_fault_that_is_mended_is_forgotten(door: Door, objects: list[Object], lines: list[str]) -> None:
    async with filled(door, [*objects, *GOOD]) as house:
        assert len(house.lines()) == len(lines)
        door.give(GOOD)
        await house.until(lambda: house.lines() == [])
        assert house.good_work()


async def test_a_good_cluster_has_no_problems(door: Door) -> None:
    async with filled(door, GOOD) as house:
        assert house.lines() == []
        assert house.good_work()


async def test_an_object_that_turns_bad_does_not_take_others_with_it(door: Door) -> None:
    async with filled(door, [*GOOD, service()]) as house:
        assert house.lines() == []
        door.give([*GOOD, service(clusterIP="10.96.0.1.2")])
        await house.until(house.lines)
        assert house.good_work()
        record = house.store.snapshot.services.get(ServiceKey("demo", "odd"))
        assert record is None


# -- what only a file can get wrong ----------------------------------------------------------------

BROKEN_FILES = [
    ("broken YAML", "kind: [Service", ":2: not valid YAML: did not find expected ',' or ']'"),
    ("tabs", "kind: Service\n\tspec: 1\n", ":2: not valid YAML: found a tab character that violates indentation"),
    ("nothing", "", ": the file is empty"),
    ("a web page", "<!doctype html>\n<p>hello</p>\n", ":1: document: not a Kubernetes object"),
    (
        "unknown kind",
        "apiVersion: v1\nkind: Servce\n",
        ":1: document: kind: 'Servce' of apiVersion 'v1' is not known",
    ),
    ("no kind", "metadata: {name: web}\n", ":1: document: kind: not set; not a Kubernetes object"),
]


@pytest.mark.parametrize(
    ("text", "line"), [case[1:] for case in BROKEN_FILES], ids=[case[0] for case in BROKEN_FILES]
)
async def test_a_bad_file_beside_good_ones(tmp_path: Path, text: str, line: str) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(text)
    (tmp_path / "good.yaml").write_text(yaml.safe_dump_all(GOOD))
    folder = Door(str(tmp_path), lambda problems: FileSource(str(tmp_path), problems))
    async with filled(folder, []) as house:
        assert house.lines() == [f"{bad}{line}"]
        assert house.good_work()
        bad.unlink()
        await house.until(lambda: house.lines() == [])
        assert house.good_work()
