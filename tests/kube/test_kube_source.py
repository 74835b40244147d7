"""The kube source against a scripted API server that plays faults."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web
from tests.kube import small_cluster
from tests.kube.scripted_server import (
    END,
    ScriptedServer,
    bookmark,
    event,
    failure,
    gone_event,
    kube_service,
    page,
    watch,
)
from tests.kube.small_cluster import until

from kpng.kube import AccessOptions
from kpng.model import ServiceKey
from kpng.store import Store


def following(server: ScriptedServer, **filters: Any) -> contextlib.AbstractAsyncContextManager[Store]:
    return small_cluster.following(AccessOptions(server=server.url), **filters)


def names(store: Store) -> set[str]:
    return {key.name for key in store.snapshot.services}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer().serving() as serving:
        yield serving


async def test_from_nothing_to_a_complete_state(server: ScriptedServer) -> None:
    slice_ = {
        "metadata": {"namespace": "demo", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.0.5"]}],
        "ports": [{"port": 8080}],
    }
    node = {"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "za"}}}
    server.script("services", watch(event("ADDED", kube_service("web")), bookmark(5, END), hang=True))
    server.script("endpointslices", watch(event("ADDED", slice_), bookmark(5, END), hang=True))
    server.script("nodes", watch(event("ADDED", node), bookmark(5, END), hang=True))
    async with following(server) as store:
        await until(lambda: store.snapshot.complete)
        record = store.snapshot.services[ServiceKey("demo", "web")]
        assert [endpoint.addresses.v4 for _, endpoint in record.endpoints()] == [("10.1.0.5",)]
        assert store.snapshot.nodes["n1"].zone == "za"


async def test_an_empty_cluster_is_complete(server: ScriptedServer) -> None:
    async with following(server) as store:
        await until(lambda: store.snapshot.complete)
        assert not store.snapshot.services


async def test_changes_arrive(server: ScriptedServer) -> None:
    server.script(
        "services",
        watch(
            event("ADDED", kube_service("a")),
            bookmark(5, END),
            event("ADDED", kube_service("b", 6)),
            event("DELETED", kube_service("a", 7)),
            hang=True,
            gap=0.01,
        ),
    )
    async with following(server) as store:
        await until(lambda: names(store) == {"b"})


async def test_events_that_come_together_are_one_revision(server: ScriptedServer) -> None:
    burst = b"".join(event("ADDED", kube_service(f"s{number}", number)) for number in range(6, 206))
    server.script("services", watch(bookmark(5, END), burst, hang=True, gap=0.05))
    async with following(server) as store:
        await until(lambda: len(names(store)) == 200)
        assert store.snapshot.revision <= 6


async def test_objects_of_megabytes(server: ScriptedServer) -> None:
    big = kube_service("big", annotations={"note": "x" * 3_000_000})
    server.script("services", watch(event("ADDED", big), bookmark(5, END), hang=True))
    async with following(server) as store:
        await until(lambda: names(store) == {"big"})


async def test_selectors_and_headers_that_are_sent(server: ScriptedServer) -> None:
    async with following(server, service_proxy_name="mine") as store:
        await until(lambda: store.snapshot.complete)
    selector = "service.kubernetes.io/service-proxy-name=mine"
    assert server.requests["services"][0]["labelSelector"] == selector
    assert server.requests["endpointslices"][0]["labelSelector"] == "!service.kubernetes.io/headless"
    assert "labelSelector" not in server.requests["nodes"][0]
    assert all(headers["Accept"] == "application/json" for headers in server.headers)
    assert not any("Authorization" in headers for headers in server.headers)


async def test_one_node_may_be_enough(server: ScriptedServer) -> None:
    async with following(server, node="node-a") as store:
        await until(lambda: store.snapshot.complete)
    assert server.requests["nodes"][0]["fieldSelector"] == "metadata.name=node-a"
    assert "fieldSelector" not in server.requests["services"][0]


# -- faults ----------------------------------------------------------------------------------------


async def test_a_refused_watch_list_falls_back_to_pages(server: ScriptedServer) -> None:
    server.script(
        "services",
        failure(422, "sendInitialEvents is forbidden"),
        page(kube_service("a"), token="more"),
        page(kube_service("b"), version=12),
    )
    async with following(server) as store:
        await until(lambda: len(server.requests["services"]) == 4)
        assert names(store) == {"a", "b"}
    _, first, second, then = server.requests["services"]
    assert (first["limit"], second["continue"], then["resourceVersion"]) == ("500", "more", "12")


@pytest.mark.parametrize("how", ["http", "event"])
async def test_a_version_too_old_leads_to_a_new_list(server: ScriptedServer, how: str) -> None:
    gone = failure(410) if how == "http" else watch(gone_event())
    first = watch(event("ADDED", kube_service("a")), event("ADDED", kube_service("b")), bookmark(5, END))
    server.script("services", first, gone)
    server.script("services", watch(event("ADDED", kube_service("b")), bookmark(90, END), hang=True))
    async with following(server) as store:
        await until(lambda: names(store) == {"b"})
    assert [query.get("resourceVersion") for query in server.requests["services"]] == [None, "5", None]


async def test_nothing_is_deleted_while_a_new_list_is_incomplete(server: ScriptedServer) -> None:
    first = watch(event("ADDED", kube_service("a")), event("ADDED", kube_service("b")), bookmark(5, END))
    server.script("services", first, failure(410), watch(event("ADDED", kube_service("a")), hang=True))
    async with following(server) as store:
        await until(lambda: len(server.requests["services"]) == 3)
        await asyncio.sleep(0.1)
        assert names(store) == {"a", "b"}


async def test_a_line_cut_in_the_middle_is_not_used(server: ScriptedServer) -> None:
    whole = event("ADDED", kube_service("c", 7))
    server.script(
        "services",
        watch(bookmark(5, END), event("ADDED", kube_service("b", 6)), whole[:50], cut=True, gap=0.02),
        watch(whole, hang=True),
    )
    async with following(server) as store:
        await until(lambda: names(store) == {"b", "c"})
    assert server.requests["services"][1]["resourceVersion"] == "6"
    assert server.checks == ["6"]


async def test_a_watch_that_ends_resumes_where_it_was(server: ScriptedServer) -> None:
    server.script(
        "services",
        watch(bookmark(5, END), bookmark(44)),
        watch(event("ADDED", kube_service("a", 45))),
        watch(hang=True),
    )
    async with following(server) as store:
        await until(lambda: len(server.requests["services"]) == 3)
        assert names(store) == {"a"}
    assert [query.get("resourceVersion") for query in server.requests["services"]] == [None, "44", "45"]
    assert server.checks == ["44", "45"]


async def test_a_watch_that_never_ends_is_given_up(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kpng.kube.reflector._WATCH_LIST_SECONDS", (0, 0))
    monkeypatch.setattr("kpng.kube.reflector._GRACE_SECONDS", 0.3)
    server.script("services", watch(event("ADDED", kube_service("a")), bookmark(5, END), hang=True))
    server.script("services", watch(event("ADDED", kube_service("b", 6)), hang=True))
    async with following(server) as store:
        await until(lambda: names(store) == {"a", "b"})
    assert server.requests["services"][0]["timeoutSeconds"] == "0"


@pytest.mark.parametrize("code", [410, 504])
async def test_a_server_with_another_history_is_listed_again(server: ScriptedServer, code: int) -> None:
    """A backup of etcd was restored: a watch from our version would wait until that is reached again."""
    first = watch(event("ADDED", kube_service("a")), event("ADDED", kube_service("b")), bookmark(900, END))
    server.script("services", first)
    server.check_script.append(failure(code, "Timeout: Too large resource version: 900, current: 90"))
    server.script("services", watch(event("ADDED", kube_service("b")), bookmark(90, END), hang=True))
    async with following(server) as store:
        await until(lambda: names(store) == {"b"})
    assert server.checks == ["900"]
    assert [query.get("resourceVersion") for query in server.requests["services"]] == [None, None]


async def test_the_kernel_watches_over_silent_connections(server: ScriptedServer) -> None:
    async with following(server) as store:
        await until(lambda: store.snapshot.complete)
        watches = list(connections_to(server.url))
        assert len(watches) == 4
        assert all(alive and idle == 30 for alive, idle in watches)


def connections_to(url: str) -> Iterator[tuple[int, int]]:
    """(SO_KEEPALIVE, TCP_KEEPIDLE) of this process' connections to a server."""
    port = int(url.rpartition(":")[2])
    for name in os.listdir("/proc/self/fd"):
        with (
            contextlib.suppress(OSError),
            socket.fromfd(int(name), socket.AF_INET, socket.SOCK_STREAM) as connection,
        ):
            if connection.getpeername()[1:2] == (port,):
                yield (
                    connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                    connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                )


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
async def test_server_errors_are_retried(server: ScriptedServer, code: int) -> None:
    server.script("services", failure(code), failure(code))
    server.script("services", watch(event("ADDED", kube_service("a")), bookmark(5, END), hang=True))
    async with following(server) as store:
        await until(lambda: names(store) == {"a"})


async def test_the_time_that_a_busy_server_asks_for_is_waited(server: ScriptedServer) -> None:
    server.script("services", failure(429, "busy", {"Retry-After": "2"}))
    server.script("services", watch(event("ADDED", kube_service("a")), bookmark(5, END), hang=True))
    started = asyncio.get_running_loop().time()
    async with following(server) as store:
        await until(lambda: names(store) == {"a"})
    assert asyncio.get_running_loop().time() - started >= 2.0


async def test_the_time_may_be_a_date(server: ScriptedServer) -> None:
    server.script("services", failure(429, "busy", {"Retry-After": formatdate(time.time() + 3, usegmt=True)}))
    server.script("services", watch(event("ADDED", kube_service("a")), bookmark(5, END), hang=True))
    started = asyncio.get_running_loop().time()
    async with following(server) as store:
        await until(lambda: names(store) == {"a"})
    assert asyncio.get_running_loop().time() - started >= 1.9  # the date has no fractions


async def test_a_server_without_streaming_lists_is_no_trouble(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kpng")
    server.script("services", failure(422, "sendInitialEvents is forbidden"), page(kube_service("a")))
    async with following(server) as store:
        await until(lambda: names(store) == {"a"})
    told = [(each.levelname, each.getMessage()) for each in caplog.records if each.name == "kpng.kube.source"]
    expected = "no streaming list (HTTP 422: sendInitialEvents is forbidden); listing in pages"
    assert told == [("INFO", f"services at {server.url}: {expected}")]


@pytest.mark.parametrize("wish", ["", "-1", "soon", "1e9", "Wed, 21 Oct 2015 07:28:00 GMT"])
async def test_a_wish_that_makes_no_sense_is_none(server: ScriptedServer, wish: str) -> None:
    server.script("services", *[failure(429, "busy", {"Retry-After": wish})] * 2)
    server.script("services", watch(event("ADDED", kube_service("a")), bookmark(5, END), hang=True))
    async with following(server) as store:
        await until(lambda: names(store) == {"a"}, 1.0)


async def test_a_list_that_is_refused_in_the_middle_begins_anew(server: ScriptedServer) -> None:
    """The first page's objects may be gone by the time of the second attempt."""
    server.script(
        "services",
        failure(422),
        page(kube_service("gone"), token="more"),
        failure(410, "The provided continue parameter is too old"),
        page(kube_service("a"), kube_service("b"), version=12),
    )
    async with following(server) as store:
        await until(lambda: names(store) == {"a", "b"})
    again = server.requests["services"][3]
    assert "continue" not in again
    assert "limit" not in again


async def test_a_slice_that_moves_while_nobody_looks(server: ScriptedServer) -> None:
    """A relist shows it with another service; the service that it left must lose it."""

    def owned(owner: str, address: str) -> dict[str, Any]:
        labels = {"kubernetes.io/service-name": owner}
        return {
            "metadata": {"namespace": "demo", "name": "s1", "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address]}],
            "ports": [{"port": 8080}],
        }

    def addresses(store: Store) -> dict[str, list[tuple[str, ...]]]:
        return {
            key.name: [info.addresses.v4 for _, info in record.endpoints()]
            for key, record in store.snapshot.services.items()
        }

    server.script(
        "services",
        watch(event("ADDED", kube_service("a")), event("ADDED", kube_service("b")), bookmark(5, END), hang=True),
    )
    server.script("endpointslices", watch(event("ADDED", owned("a", "10.1.0.5")), bookmark(5, END)), failure(410))
    server.script("endpointslices", watch(event("ADDED", owned("b", "10.1.0.6")), bookmark(90, END), hang=True))
    async with following(server) as store:
        await until(lambda: addresses(store) == {"a": [], "b": [("10.1.0.6",)]})


async def test_one_kind_in_trouble_does_not_hold_up_the_others(server: ScriptedServer) -> None:
    server.script("nodes", failure(403, "nodes is forbidden"), failure(403))
    server.script("services", watch(event("ADDED", kube_service("a")), bookmark(5, END), hang=True))
    async with following(server) as store:
        await until(lambda: names(store) == {"a"})
        assert not store.snapshot.complete


async def test_refusals_are_told_once_and_clearly(server: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    server.script("nodes", failure(403, 'nodes is forbidden: User "x" cannot list'))
    async with following(server):
        await until(lambda: caplog.records)
        await asyncio.sleep(0.2)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f'nodes at {server.url}: HTTP 403: nodes is forbidden: User "x" cannot list; trying again in '
    )
    assert len(server.requests["nodes"]) == 1


async def test_a_connection_that_breaks_off_is_told_in_plain_words(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.script("services", watch(bookmark(5, END), cut=True))
    async with following(server):
        await until(lambda: caplog.records)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"services at {server.url}: the connection broke off; trying again in ")


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_refused_connection_is_told_in_plain_words(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    server = ScriptedServer()
    async with server.serving():
        server.url = server.url.replace("http", scheme)
    async with following(server):
        await until(lambda: len(caplog.records) == 4)
    address = f"127.0.0.1:{server.url.rpartition(':')[2]}"
    for record in caplog.records:
        said = record.getMessage().partition(" at ")[2]
        assert said.startswith(f"{scheme}://{address}: cannot connect: Connect call failed (")


async def test_an_answer_that_takes_too_long_is_told_in_plain_words(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kpng.kube.reflector._WATCH_LIST_SECONDS", (0, 0))
    monkeypatch.setattr("kpng.kube.reflector._GRACE_SECONDS", 0.1)
    server.script("services", watch(hang=True), failure(500))
    async with following(server):
        await until(lambda: any("services" in record.getMessage() for record in caplog.records))
    assert any(": no answer in time; trying again in " in record.getMessage() for record in caplog.records)


async def test_a_server_that_is_not_there_yet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = ScriptedServer()
    async with server.serving():
        port = int(server.url.rpartition(":")[2])
    async with following(server) as store:
        await asyncio.sleep(0.4)
        assert not store.snapshot.synced
        runner = web.AppRunner(_app(server), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await until(lambda: store.snapshot.complete)
    await runner.cleanup()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 4  # one a resource, however often it was tried
    assert sum("working again" in record.getMessage() for record in caplog.records) == 4


def _app(server: ScriptedServer) -> web.Application:
    app = web.Application()
    app.router.add_get("/api/v1/{resource}", server._answer)
    app.router.add_get("/apis/discovery.k8s.io/v1/{resource}", server._answer)
    app.router.add_get("/apis/networking.k8s.io/v1/{resource}", server._answer)
    return app


@pytest.mark.parametrize("garbage", [b"<html>hello</html>\n", b'{"type":"ADDED"}\n', b"\xff\xfe\x00\n", b"null\n"])
async def test_garbage_instead_of_events(server: ScriptedServer, garbage: bytes) -> None:
    server.script("services", watch(garbage), failure(500))
    server.script("services", watch(event("ADDED", kube_service("a")), bookmark(5, END), hang=True))
    async with following(server) as store:
        await until(lambda: names(store) == {"a"})


async def test_it_ends_at_once_when_cancelled(server: ScriptedServer) -> None:
    started = 0.0
    async with following(server) as store:
        await until(lambda: store.snapshot.complete)
        started = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - started < 0.5


@pytest.mark.parametrize("code", [403, 404])
async def test_a_cluster_without_service_cidrs(
    server: ScriptedServer, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """An old cluster has none, an old ClusterRole does not let us see them: told once, everything else works."""
    caplog.set_level(logging.INFO, "kpng")
    server.script("servicecidrs", *[failure(code)] * 20)
    async with following(server) as store:
        await until(lambda: store.snapshot.complete)
        await until(lambda: len(server.requests["servicecidrs"]) >= 2)
    told = [record for record in caplog.records if record.name == "kpng.kube.source"]
    assert [(record.levelname, "going on without them" in record.getMessage()) for record in told] == [
        ("INFO", True)
    ]


async def test_service_cidrs_are_taken_as_soon_as_they_may_be_seen(server: ScriptedServer) -> None:
    """A server that has just started denies it once: nobody is told that there are none."""
    server.script("servicecidrs", failure(403))
    thing = {"metadata": {"name": "kubernetes", "resourceVersion": "3"}, "spec": {"cidrs": ["10.96.0.0/16"]}}
    server.script("servicecidrs", watch(event("ADDED", thing), bookmark(5, END), hang=True))
    async with following(server) as store:
        await until(lambda: store.snapshot.complete)
        assert dict(store.snapshot.service_cidrs) == {"kubernetes": ("10.96.0.0/16",)}


async def test_service_cidrs_that_were_seen_are_not_forgotten(server: ScriptedServer) -> None:
    thing = {"metadata": {"name": "kubernetes", "resourceVersion": "3"}, "spec": {"cidrs": ["10.96.0.0/16"]}}
    server.script("servicecidrs", watch(event("ADDED", thing), bookmark(5, END)), *[failure(403)] * 3)
    async with following(server) as store:
        await until(lambda: bool(store.snapshot.service_cidrs))
        await until(lambda: len(server.requests["servicecidrs"]) >= 3)
        assert store.snapshot.service_cidrs
