"""What a follower's session makes of refusals, silence and credentials that have run out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from tests.kube.receiver import RecordingReceiver
from tests.kube.scripted_server import (
    END,
    Reply,
    ScriptedServer,
    bookmark,
    event,
    failure,
    kube_service,
    page,
    watch,
)
from tests.kube.small_cluster import NAME, following, resolving, until, write_netrc

from kpng.kube import AccessOptions
from kpng.kube.reflector import Phase, Reflector
from kpng.kube.resource import Resource


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer().serving() as serving:
        yield serving


def kubeconfig(path: Path, server: ScriptedServer, token: str) -> AccessOptions:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(config))
    return AccessOptions(kubeconfig=str(path))


@pytest.mark.parametrize("token", ["", "t"], ids=["anonymous", "token"])
async def test_passwords_of_others_are_not_sent(
    server: ScriptedServer, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those in ~/.netrc are for ftp, curl and git."""
    write_netrc(tmp_path, monkeypatch)
    monkeypatch.setenv("NO_PROXY", "*")
    server.url = server.url.replace("127.0.0.1", NAME)
    options = kubeconfig(tmp_path / "c", server, token)
    with resolving({NAME: ["127.0.0.1"]}):
        async with following(options) as store:
            await until(lambda: store.snapshot.complete)
    assert {headers.get("Authorization") for headers in server.headers} == {f"Bearer {token}" if token else None}


async def test_a_proxy_that_makes_no_sense_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://joe:secret@proxy:port")
    monkeypatch.setenv("NO_PROXY", "elsewhere")
    async with following(AccessOptions(server=f"http://{NAME}")):
        await until(lambda: len(caplog.messages) >= 4)
    assert all(": the address of the server or of its proxy cannot be used; " in each for each in caplog.messages)


def late(seconds: float, reply: Reply) -> Reply:
    """An answer whose head takes its time."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await reply(request)

    return answer


async def test_a_server_that_takes_a_watch_and_does_not_answer_is_given_up(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is paused, or a load balancer hangs: the connection is alive, the answer would never come."""
    monkeypatch.setattr("kpng.kube.client._STREAM_SECONDS", 0.3)
    server.script("services", late(60, watch()), page(), late(60, watch()))
    async with following(AccessOptions(server=server.url)) as store:
        await until(lambda: len(server.requests["services"]) >= 4)
        assert store.snapshot.complete
    assert ["watch" in query for query in server.requests["services"]][:4] == [True, False, True, True]
    assert server.checks == ["10"]


async def test_a_watch_may_be_silent_once_it_has_begun_and_a_list_may_take_its_time(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kpng.kube.client._STREAM_SECONDS", 1.0)
    slow = watch(bookmark(5, END), event("ADDED", kube_service("a", 6)), hang=True, gap=1.3)
    server.script("services", slow)
    server.script("nodes", failure(422), late(1.3, page()))
    async with following(AccessOptions(server=server.url)) as store:
        await until(lambda: store.snapshot.complete and store.snapshot.services)
    assert caplog.messages == []


def test_a_check_is_short() -> None:
    """Whoever does not answer it within half a minute is not there."""
    reflector = Reflector(Resource("things", "/api/v1/things"), RecordingReceiver())
    reflector.lines([bookmark(5, END)])
    reflector.failed()
    assert reflector.phase is Phase.CHECK
    assert reflector.request().timeout <= 40


async def test_a_watch_list_that_is_refused_for_an_old_token_is_asked_for_again(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Not a list in pages: the server can do better, as soon as it knows us."""
    server.script("services", failure(401))
    async with following(kubeconfig(tmp_path / "c", server, "t")) as store:
        await until(lambda: store.snapshot.complete)
    first, second, *_ = server.requests["services"]
    assert "sendInitialEvents" in first
    assert "sendInitialEvents" in second
