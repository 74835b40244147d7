"""What a follower's session makes of refusals, silence and credentials that have run out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from tests.kube.scripted_server import ScriptedServer, failure
from tests.kube.small_cluster import NAME, following, resolving, write_netrc

from kpng.kube import AccessOptions


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
        async with following(options) as store, asyncio.timeout(5):
            while not store.snapshot.complete:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    assert {headers.get("Authorization") for headers in server.headers} == {f"Bearer {token}" if token else None}


async def test_a_proxy_that_makes_no_sense_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://joe:secret@proxy:port")
    monkeypatch.setenv("NO_PROXY", "elsewhere")
    async with following(AccessOptions(server=f"http://{NAME}")), asyncio.timeout(5):
        while len(caplog.messages) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert all(": the address of the server or of its proxy cannot be used; " in each for each in caplog.messages)


async def test_a_watch_list_that_is_refused_for_an_old_token_is_asked_for_again(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Not a list in pages: the server can do better, as soon as it knows us."""
    server.script("services", failure(401))
    async with following(kubeconfig(tmp_path / "c", server, "t")) as store, asyncio.timeout(5):
        while not store.snapshot.complete:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    first, second, *_ = server.requests["services"]
    assert "sendInitialEvents" in first
    assert "sendInitialEvents" in second
