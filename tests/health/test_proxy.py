"""Section M and N1: what the proxy says of itself, by real requests."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from kpng.health import HealthState, metrics_handler, proxy_health_handler, serve, server
from kpng.model import Family, IPSet, LocalNode, UserError

NODE = LocalNode(name="n", addresses=IPSet.of(["192.0.2.1"]), eligible=True)
DRAINED = LocalNode(name="n", addresses=IPSet.of(["192.0.2.1"]), eligible=False)


class Rig:
    def __init__(self) -> None:
        self.elapsed = 0.0
        self.state = HealthState(60.0, wall=lambda: 100 + self.elapsed, steady=lambda: self.elapsed)
        self.state.node(NODE)
        self.handler = proxy_health_handler(self.state)


async def ask(web: Any, rig: Rig) -> tuple[Any, Any]:
    """(/healthz, /livez)."""
    port = web.free_port()
    async with web.background(serve("health", rig.handler, "127.0.0.1", port)):
        await web.until_open("127.0.0.1", port)
        return await web.get("127.0.0.1", port, "/healthz"), await web.get("127.0.0.1", port, "/livez")


async def test_m2_all_well(web: Any) -> None:
    healthz, livez = await ask(web, Rig())
    for answer in (healthz, livez):
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert list(json.loads(healthz.body)) == ["lastUpdated", "currentTime", "nodeEligible", "healthy", "status"]
    assert list(json.loads(livez.body)) == ["lastUpdated", "currentTime", "healthy", "status"]


async def test_m3_a_drained_node_fails_healthz_only(web: Any) -> None:
    rig = Rig()
    rig.state.node(DRAINED)
    healthz, livez = await ask(web, rig)
    assert (healthz.status, livez.status) == (503, 200)
    assert json.loads(healthz.body)["healthy"] is True
    assert json.loads(healthz.body)["nodeEligible"] is False


async def test_m4_m5_what_waits_too_long_fails_both(web: Any) -> None:
    rig = Rig()
    rig.elapsed = 10
    rig.state.synced([Family.IPV6])
    rig.state.queued([Family.IPV4])
    rig.elapsed = 70
    healthz, livez = await ask(web, rig)
    assert (healthz.status, livez.status) == (503, 503)
    said = json.loads(livez.body)
    assert said["healthy"] is False
    assert said["lastUpdated"] == "1970-01-01T00:01:50Z"
    assert said["status"]["IPv4"] == {"lastUpdated": "1970-01-01T00:01:40Z", "healthy": False}
    assert said["status"]["IPv6"] == {"lastUpdated": "1970-01-01T00:01:50Z", "healthy": True}


@pytest.mark.parametrize("path", ["/", "/healthz/", "/readyz", "/metrics", "/proxyMode"])
async def test_m1_other_paths_are_404(web: Any, path: str) -> None:
    port = web.free_port()
    async with web.background(serve("health", Rig().handler, "127.0.0.1", port)):
        await web.until_open("127.0.0.1", port)
        assert (await web.get("127.0.0.1", port, path)).status == 404
        assert (await web.get("127.0.0.1", port, "/healthz?verbose", "POST")).status == 200


async def test_n1_proxy_mode(web: Any) -> None:
    port = web.free_port()
    async with web.background(serve("metrics", metrics_handler("nftables", {"mode": ""}), "127.0.0.1", port)):
        await web.until_open("127.0.0.1", port)
        paths = "/proxyMode", "/healthz", "/configz", "/"
        mode, healthz, configz, other = [await web.get("127.0.0.1", port, path) for path in paths]
    assert (mode.status, mode.body) == (200, "nftables")
    assert mode.headers["Content-Type"].startswith("text/plain")
    assert mode.headers["X-Content-Type-Options"] == "nosniff"
    assert (healthz.status, healthz.body) == (200, "ok")
    assert configz.headers["Content-Type"] == "application/json"
    assert json.loads(configz.body) == {"kubeproxy.config.k8s.io": {"mode": ""}}, "N2"
    assert other.status == 404


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
async def test_m1_an_unspecified_address_is_both_families(web: Any, address: str) -> None:
    port = web.free_port()
    async with web.background(serve("health", Rig().handler, address, port)):
        await web.until_open("127.0.0.1", port)
        assert await web.is_open("::1", port)


async def test_a_specific_address_is_that_alone(web: Any) -> None:
    port = web.free_port()
    async with web.background(serve("health", Rig().handler, "127.0.0.1", port)):
        await web.until_open("127.0.0.1", port)
        assert not await web.is_open("127.0.0.2", port)
        assert not await web.is_open("::1", port)


async def test_x3_port_0_serves_nothing_and_breaks_nothing(web: Any) -> None:
    rig = Rig()
    async with web.background(serve("health", rig.handler, "0.0.0.0", 0)) as task:
        await asyncio.sleep(0.02)
        assert not task.done()
    assert rig.state.healthy


async def test_m8_an_address_that_is_taken_is_tried_again_and_said_once(
    web: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "RETRY_SECONDS", 0.02)
    port = web.free_port()
    with caplog.at_level(logging.ERROR):
        with web.taken("127.0.0.1", port):
            task = asyncio.create_task(serve("health", Rig().handler, "127.0.0.1", port))
            await asyncio.sleep(0.2)
        await web.until_open("127.0.0.1", port)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    faults = [record.getMessage() for record in caplog.records]
    assert len(faults) == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in faults[0]


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"nonsense\r\n\r\n", b"GET /livez HT"]
)
async def test_who_speaks_something_else_disturbs_nobody(
    web: Any, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    port = web.free_port()
    async with web.background(serve("health", Rig().handler, "127.0.0.1", port)):
        await web.until_open("127.0.0.1", port)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await writer.drain()
        assert (await web.get("127.0.0.1", port, "/livez")).status == 200
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.02)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_m8_hard_fail_ends_it(web: Any) -> None:
    port = web.free_port()
    with web.taken("127.0.0.1", port), pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}"):
        await serve("health", Rig().handler, "127.0.0.1", port, hard_fail=True)


async def test_an_address_that_nobody_has(web: Any) -> None:
    with pytest.raises(UserError, match=r"cannot listen on \[2001:db8::1\]:10256"):
        await serve("health", Rig().handler, "2001:db8::1", 10256, hard_fail=True)
