"""What a follower's session makes of refusals, silence and credentials that have run out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from tests.kube.scripted_server import ScriptedServer, failure
from tests.kube.small_cluster import following

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
