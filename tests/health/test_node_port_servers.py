"""Section L: health checks of Services, by real requests."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kpng.health import HealthCheckServers, HealthState, server
from kpng.model import FAMILIES, ChangeSet, Family, IPSet, LocalNode, LocalService
from kpng.testing import change_set, endpoint, full_state, local_service, service

V4, V6 = FAMILIES
NOWHERE = IPSet.of(["203.0.113.1"])
"""A Node with this address listens on none."""
HERE = {V4: ("127.0.0.1",), V6: ("::1",)}


def checked(port: int, *addresses: str, name: str = "ns1/web") -> LocalService:
    endpoints = (endpoint(address, local=True) for address in addresses)
    return local_service(service(name, "10.96.0.1", health_check_node_port=port), *endpoints)


class Rig:
    def __init__(self, addresses: Mapping[Family, tuple[str, ...]]) -> None:
        self.elapsed = 0.0
        self.addresses = addresses
        self.state = HealthState(60.0, steady=lambda: self.elapsed)
        self.servers = HealthCheckServers(
            self.state, lambda node: self.addresses if node.v4 != NOWHERE.v4 else {V4: (), V6: ()}
        )


@asynccontextmanager
async def rig(
    web: Any, *services: LocalService, addresses: Mapping[Family, tuple[str, ...]] = HERE
) -> AsyncIterator[Rig]:
    made = Rig(addresses)
    async with web.background(made.servers.run()):
        made.servers.apply(full_state(*services))
        yield made


BODY = (
    '{\n\t"service": {\n\t\t"namespace": "ns1",\n\t\t"name": "web"\n\t},\n'
    '\t"localEndpoints": %d,\n\t"serviceProxyHealthy": %s\n}'
)


async def test_l3_l4_l5_the_answer(web: Any) -> None:
    port = web.free_port()
    async with rig(web, checked(port, "10.244.0.1", "10.244.0.2")):
        await web.until_open("127.0.0.1", port)
        status, headers, body = await web.get("127.0.0.1", port)
    assert (status, body) == (200, BODY % (2, "true"))
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Load-Balancing-Endpoint-Weight"] == "2"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/healthz", "/any/where?at=all", "//%00"])
async def test_l3_any_path_and_method(web: Any, method: str, path: str) -> None:
    port = web.free_port()
    async with rig(web, checked(port, "10.244.0.1")):
        await web.until_open("127.0.0.1", port)
        answer = await web.get("127.0.0.1", port, path, method)
    assert (answer.status, answer.body) == (200, BODY % (1, "true"))


async def test_l3_head_has_no_body(web: Any) -> None:
    port = web.free_port()
    async with rig(web, checked(port, "10.244.0.1")):
        await web.until_open("127.0.0.1", port)
        answer = await web.get("127.0.0.1", port, "/", "HEAD")
    assert (answer.status, answer.body) == (200, "")
    assert answer.headers["X-Load-Balancing-Endpoint-Weight"] == "1"


async def test_l4_without_endpoints_503(web: Any) -> None:
    port = web.free_port()
    async with rig(web, checked(port)):
        await web.until_open("127.0.0.1", port)
        answer = await web.get("127.0.0.1", port)
    assert (answer.status, answer.body) == (503, BODY % (0, "true"))
    assert answer.headers["X-Load-Balancing-Endpoint-Weight"] == "0"


async def test_l4_an_unhealthy_proxy_503(web: Any) -> None:
    port = web.free_port()
    async with rig(web, checked(port, "10.244.0.1")) as rigged:
        await web.until_open("127.0.0.1", port)
        rigged.state.queued([V6])
        assert (await web.get("127.0.0.1", port)).status == 200
        rigged.elapsed = 60
        answer = await web.get("127.0.0.1", port)
        assert (answer.status, answer.body) == (503, BODY % (1, "false"))
        rigged.state.synced([V6])
        assert (await web.get("127.0.0.1", port)).status == 200


async def test_x19_l4_a_node_that_is_not_eligible_makes_no_difference(web: Any) -> None:
    port = web.free_port()
    async with rig(web, checked(port, "10.244.0.1")) as rigged:
        await web.until_open("127.0.0.1", port)
        rigged.state.node(LocalNode(name="n", eligible=False))
        assert not rigged.state.report().node_eligible
        assert (await web.get("127.0.0.1", port)).status == 200


async def test_l11_each_family_answers_for_itself(web: Any) -> None:
    port = web.free_port()
    async with rig(web, checked(port, "10.244.0.1", "10.244.0.2")):
        await web.until_open("::1", port)
        v4, v6 = await web.get("127.0.0.1", port), await web.get("::1", port)
    assert (v4.status, v4.headers["X-Load-Balancing-Endpoint-Weight"]) == (200, "2")
    assert (v6.status, v6.headers["X-Load-Balancing-Endpoint-Weight"]) == (503, "0")


async def test_l7_counts_and_ports_follow_what_is_applied(web: Any) -> None:
    port, other = web.free_port(), web.free_port()
    one, two, moved = checked(port), checked(port, "10.244.0.1"), checked(other, "10.244.0.1")
    async with rig(web, one) as rigged:
        await web.until_open("127.0.0.1", port)
        rigged.servers.apply(change_set([one], [two]))
        assert (await web.get("127.0.0.1", port)).status == 200
        rigged.servers.apply(change_set([two], [moved]))
        await web.until_open("127.0.0.1", other)
        assert not await web.is_open("127.0.0.1", port)
        rigged.servers.apply(change_set([moved], []))
        await web.until_open("127.0.0.1", other, is_open=False)


async def test_a_port_that_one_service_leaves_and_another_takes(web: Any) -> None:
    port = web.free_port()
    old, new = checked(port, "10.244.0.1"), checked(port, "10.244.0.1", name="ns1/zzz")
    async with rig(web, old) as rigged:
        await web.until_open("127.0.0.1", port)
        rigged.servers.apply(change_set([old], [new]))
        await web.until_open("127.0.0.1", port, saying='"zzz"')


async def test_x6_servers_follow_the_addresses(web: Any) -> None:
    port = web.free_port()
    async with rig(web, checked(port, "10.244.0.1"), addresses={V4: ("127.0.0.1",), V6: ()}) as rigged:
        await web.until_open("127.0.0.1", port)
        assert not await web.is_open("127.0.0.2", port)
        rigged.addresses = {V4: ("127.0.0.1", "127.0.0.2"), V6: ("::1",)}
        rigged.servers.look_again()
        await web.until_open("127.0.0.2", port)
        await web.until_open("::1", port)
        rigged.addresses = {V4: ("127.0.0.2",), V6: ()}
        rigged.servers.look_again()
        await web.until_open("127.0.0.1", port, is_open=False)
        await web.until_open("127.0.0.2", port)
        assert not await web.is_open("::1", port)


async def test_x6_servers_follow_the_node(web: Any) -> None:
    port = web.free_port()
    async with rig(web, checked(port, "10.244.0.1")) as rigged:
        await web.until_open("127.0.0.1", port)
        rigged.servers.apply(ChangeSet({}, node=LocalNode(name="n", addresses=NOWHERE)))
        await web.until_open("127.0.0.1", port, is_open=False)
        rigged.servers.apply(ChangeSet({}, node=LocalNode(name="n", addresses=IPSet.of(["127.0.0.1"]))))
        await web.until_open("127.0.0.1", port)


async def test_what_has_not_changed_keeps_its_connections(web: Any) -> None:
    port = web.free_port()
    one, other = checked(port, "10.244.0.1"), checked(web.free_port(), name="ns1/other")
    async with rig(web, one) as rigged:
        await web.until_open("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        rigged.servers.apply(change_set([], [other]))
        await web.until_open("127.0.0.1", other.service.health_check_node_port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()


async def test_l8_what_cannot_be_bound_is_tried_again_and_said_once(
    web: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "RETRY_SECONDS", 0.02)
    port, free = web.free_port(), web.free_port()
    both = {V4: ("127.0.0.2", "127.0.0.1"), V6: ()}
    with caplog.at_level(logging.ERROR), web.taken("127.0.0.1", port):
        services = checked(port, "10.244.0.1"), checked(free, "10.244.0.1", name="ns1/well")
        async with rig(web, *services, addresses=both):
            await web.until_open("127.0.0.1", free)
            await asyncio.sleep(0.2)
            assert not await web.is_open("127.0.0.2", port), "all addresses of a service, or none"
            faults = [record.getMessage() for record in caplog.records]
            assert len(faults) == 1
            assert f"ns1/web (IPv4): cannot listen on port {port}: Address already in use" in faults[0]


async def test_a_machine_without_ipv6_is_no_fault(
    web: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bind = server._bind

    def bind_ipv4(address: str, port: int, *, both: bool) -> socket.socket:
        if ":" in address:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return bind(address, port, both=both)

    monkeypatch.setattr(server, "_bind", bind_ipv4)
    port = web.free_port()
    async with rig(web, checked(port, "10.244.0.1")):
        await web.until_open("127.0.0.1", port)
        assert not await web.is_open("::1", port)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_l8_once_the_port_is_free_it_is_served(web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "RETRY_SECONDS", 0.02)
    port = web.free_port()
    addresses = {V4: ("127.0.0.2", "127.0.0.1"), V6: ()}
    made = Rig(addresses)
    async with web.background(made.servers.run()):
        with web.taken("127.0.0.1", port):
            made.servers.apply(full_state(checked(port, "10.244.0.1")))
            await asyncio.sleep(0.1)
            assert not await web.is_open("127.0.0.2", port)
        await web.until_open("127.0.0.1", port)
        await web.until_open("127.0.0.2", port)


async def test_a_service_that_goes_while_its_port_is_taken_is_not_tried_any_more(
    web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "RETRY_SECONDS", 0.02)
    port = web.free_port()
    web_service = checked(port)
    made = Rig({V4: ("127.0.0.1",), V6: ()})
    async with web.background(made.servers.run()):
        with web.taken("127.0.0.1", port):
            made.servers.apply(full_state(web_service))
            await asyncio.sleep(0.05)
            made.servers.apply(change_set([web_service], []))
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.1)
        assert not await web.is_open("127.0.0.1", port)


async def test_when_it_ends_nothing_listens(web: Any) -> None:
    port = web.free_port()
    async with rig(web, checked(port)):
        await web.until_open("127.0.0.1", port)
    assert not await web.is_open("127.0.0.1", port)


async def test_an_empty_change_set_is_no_event(web: Any) -> None:
    port = web.free_port()
    async with rig(web, checked(port, "10.244.0.1")) as rigged:
        await web.until_open("127.0.0.1", port)
        rigged.servers.apply(ChangeSet({}))
        assert (await web.get("127.0.0.1", port)).status == 200


async def test_addresses_that_cannot_be_read_now_are_read_later(
    web: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Interfaces that keep changing are no reason to end the proxy."""
    monkeypatch.setattr(server, "RETRY_SECONDS", 0.01)
    port = web.free_port()
    failures = [InterruptedError("the addresses kept changing while they were read")] * 3

    def addresses(_: IPSet) -> Mapping[Family, tuple[str, ...]]:
        if failures:
            raise failures.pop()
        return HERE

    servers = HealthCheckServers(HealthState(), addresses)
    async with web.background(servers.run()):
        servers.apply(full_state(checked(port, "10.244.0.1")))
        await web.until_open("127.0.0.1", port)
    assert caplog.text.count("kept changing") == 1


async def test_without_health_checks_addresses_do_not_matter(web: Any) -> None:
    """They are read for nothing wherever pods come and go."""
    asked: list[IPSet] = []
    servers = HealthCheckServers(HealthState(), lambda node: asked.append(node) or HERE)
    async with web.background(servers.run()):
        servers.apply(full_state(checked(0)))
        for _ in range(3):
            servers.look_again()
            await asyncio.sleep(0.005)
    assert asked == []
