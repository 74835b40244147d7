"""What a test can do to the server, and its TLS and token."""

from __future__ import annotations

import asyncio
import ssl
import stat
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from kpng.lab.apiserver import ApiServer

PATH = "/api/v1/services"


async def test_refusals_are_counted(api: Any, server: ApiServer) -> None:
    server.faults.refuse(429, 2)
    server.faults.refuse(500)
    codes = [(await api("GET", PATH))[0] for _ in range(4)]
    assert codes == [429, 429, 500, 200]


async def test_delay(api: Any, server: ApiServer) -> None:
    server.faults.delay = 0.1
    begun = asyncio.get_running_loop().time()
    assert (await api("GET", PATH))[0] == 200
    assert asyncio.get_running_loop().time() - begun >= 0.09


async def test_pause_holds_requests_and_watches(api: Any, server: ApiServer, service: Any) -> None:
    watching = asyncio.create_task(api.events(f"{PATH}?watch=1&resourceVersion={server.revision}", 1))
    await server.faults.wait_for_watches()
    server.faults.pause()
    server.load([service()])
    listing = asyncio.create_task(api("GET", PATH))
    done, _ = await asyncio.wait([watching, listing], timeout=0.1)
    assert not done
    server.faults.resume()
    assert (await listing)[0] == 200
    assert len(await watching) == 1


async def test_dropped_watches_break_off(api: Any, server: ApiServer) -> None:
    watching = asyncio.create_task(api.events(f"{PATH}?watch=1&resourceVersion={server.revision}", 1))
    await server.faults.wait_for_watches()
    server.faults.drop_watches()
    with pytest.raises(aiohttp.ClientError):
        await watching
    assert (await api("GET", PATH))[0] == 200


async def test_a_client_that_left_is_no_error(
    api: Any, server: ApiServer, service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    watching = [asyncio.create_task(api.events(f"{PATH}?watch=1", 99)) for _ in range(3)]
    await server.faults.wait_for_watches(3)
    server.load([service()])
    server.faults.drop_watches()
    answers = await asyncio.gather(*watching, return_exceptions=True)
    assert all(isinstance(answer, aiohttp.ClientError) for answer in answers)
    await api("GET", PATH)
    assert [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"] == []


async def test_stop_and_start_again_keeps_the_objects(server: ApiServer, service: Any) -> None:
    server.load([service()])
    port = int(server.url.rpartition(":")[2])
    await server.stop()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(server.url + PATH)
        await server.start(port=port)
        async with session.get(server.url + PATH) as response:
            assert len((await response.json())["items"]) == 1


async def test_a_taken_port_is_an_os_error(server: ApiServer) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await ApiServer().start(port=int(server.url.rpartition(":")[2]))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "tls.crt", folder / "tls.key"
    subject = ["-subj", "/CN=kpng-lab", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        *subject,
    ]
    subprocess.run([*command, "-keyout", key, "-out", cert, "-days", "1"], check=True, capture_output=True)
    return cert, key


async def test_tls_and_token_with_the_written_kubeconfig(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    server = ApiServer(token="secret", ssl_context=context)
    url = await server.start()
    path = server.kubeconfig(tmp_path / "config", certificate[0].read_bytes())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = yaml.safe_load(path.read_text())
    assert written["clusters"][0]["cluster"]["server"] == url
    assert url.startswith("https://127.0.0.1:")
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
        for token, code in (("", 401), ("Bearer wrong", 401), ("Bearer secret", 200)):
            async with session.get(url + PATH, headers={"Authorization": token}) as response:
                assert response.status == code
    await server.stop()


async def test_ipv6() -> None:
    server = ApiServer()
    url = await server.start("::1")
    assert url.startswith("http://[::1]:")
    async with aiohttp.ClientSession() as session, session.get(f"{url}/healthz") as response:
        assert await response.text() == "ok"
    await server.stop()


async def test_an_accident_inside_is_answered_with_500(
    api: Any, server: ApiServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(server.faults, "before_request", fail)
    code, status = await api("GET", PATH)
    assert (code, status["reason"]) == (500, "InternalError")
    assert "GET /api/v1/services failed" in caplog.text
