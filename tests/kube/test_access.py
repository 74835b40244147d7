"""Finding the API server, and what requests to it carry: real kubeconfigs, real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpng.kube import AccessOptions, KubeOptions, KubeSource
from kpng.kube.access import Access, load_access
from kpng.kube.client import KubeClient
from kpng.kube.credentials import Grant, Minted, bearer
from kpng.kube.reflector import Request
from kpng.kube.tls import TLSContexts, TLSFiles
from kpng.lab.apiserver import ApiServer
from kpng.model import ProblemLog, UserError
from kpng.store import Store

NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}


@pytest.fixture(autouse=True)
def _no_other_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def kubeconfig(path: Path, server: str = "http://127.0.0.1:1", user: dict[str, Any] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(config))
    return path


# -- which server ----------------------------------------------------------------------------------


async def test_a_plain_url_needs_no_library() -> None:
    program = (
        "import asyncio, sys; from kpng.kube.access import *;"
        "access = asyncio.run(load_access(AccessOptions(server='http://10.0.0.1:8080/')));"
        "print(access.server, asyncio.run(access.authenticate()), 'kubernetes_asyncio' in sys.modules)"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert said.decode() == "http://10.0.0.1:8080 ({}, None) False\n"


async def test_the_order_in_which_servers_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeconfig(tmp_path / "home" / ".kube" / "config", "http://home:1")
    assert (await load_access(AccessOptions())).server == "http://home:1"
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "env", "http://env:1")))
    assert (await load_access(AccessOptions())).server == "http://env:1"
    assert (await load_access(AccessOptions(server="http://flag:1"))).server == "http://flag:1"
    flag = str(kubeconfig(tmp_path / "flag", "http://file:1"))
    assert (await load_access(AccessOptions(kubeconfig=flag))).server == "http://file:1"


async def test_credentials_stay_with_the_kubeconfig_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--server` alone sends nobody's token anywhere; with `--kubeconfig` it only replaces the address."""
    path = str(kubeconfig(tmp_path / "c", user={"token": "secret"}))
    monkeypatch.setenv("KUBECONFIG", path)
    assert await (await load_access(AccessOptions(server="http://other:1"))).authenticate() == ({}, None)
    both = await load_access(AccessOptions(kubeconfig=path, server="http://other:1"))
    assert both.server == "http://other:1"
    assert await both.authenticate() == ({"Authorization": "Bearer secret"}, None)


async def test_several_files_in_the_environment_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, missing = kubeconfig(tmp_path / "a", "http://first:1"), tmp_path / "missing"
    second = kubeconfig(tmp_path / "b", "http://second:1")
    monkeypatch.setenv("KUBECONFIG", f"{missing}:{first}:{second}")
    assert (await load_access(AccessOptions())).server == "http://first:1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("", ""),
        ("{}", ""),
        ("kind: [", ""),
        (
            "apiVersion: v1\nkind: Config\ncurrent-context: nowhere\nclusters: []\nusers: []\ncontexts: []\n",
            "nowhere",
        ),
    ],
)
async def test_a_kubeconfig_that_cannot_be_used(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as caught:
        await load_access(AccessOptions(kubeconfig=str(path)))
    assert str(caught.value).startswith(f"kubeconfig {path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_no_server_at_all() -> None:
    with pytest.raises(UserError, match="no API server given: use --kubeconfig FILE or --server URL"):
        await load_access(AccessOptions())


@pytest.mark.parametrize(
    "server", ["10.0.0.1:6443", "ftp://x", "localhost", "http://[::1", "https://", "https://a:99999", "http://a:x"]
)
async def test_what_is_no_url(server: str) -> None:
    with pytest.raises(UserError, match=r"not an http:// or https:// URL"):
        await load_access(AccessOptions(server=server))


async def test_in_a_pod_without_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(UserError, match="in-cluster configuration: "):
        await load_access(AccessOptions())


async def test_a_token_from_an_exec_plugin(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(
        '#!/bin/sh\necho \'{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",'
        ' "status": {"token": "minted"}}\'\n'
    )
    plugin.chmod(0o755)
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    access = await load_access(AccessOptions(kubeconfig=str(kubeconfig(tmp_path / "c", user=user))))
    assert await access.authenticate() == ({"Authorization": "Bearer minted"}, None)


# -- against a server ------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serving(port: int = 0, **options: Any) -> AsyncIterator[ApiServer]:
    server = ApiServer(**options)
    server.load([NODE])
    await server.start(port=port)
    try:
        yield server
    finally:
        await server.stop()


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def nodes_seen(options: AccessOptions, seconds: float = 5.0) -> set[str]:
    """The Nodes that a source with these options comes to know."""
    store = Store()
    task = asyncio.create_task(KubeSource(KubeOptions(options), ProblemLog()).run(store))
    try:
        await until(lambda: store.snapshot.complete or task.done(), seconds)
        if task.done():
            task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, UserError):
            await task
    return set(store.snapshot.nodes)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, bytes]:
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout key.pem -out crt.pem"
        " -subj /CN=lab -addext subjectAltName=IP:127.0.0.1,DNS:lab.example"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "crt.pem", folder / "key.pem")
    return context, (folder / "crt.pem").read_bytes()


async def test_a_token_over_tls(tmp_path: Path, authority: tuple[ssl.SSLContext, bytes]) -> None:
    context, certificate = authority
    async with serving(token="secret", ssl_context=context) as server:
        path = server.kubeconfig(tmp_path / "c", certificate)
        assert await nodes_seen(AccessOptions(kubeconfig=str(path))) == {"n1"}


async def test_an_unknown_authority_is_not_trusted(
    tmp_path: Path, authority: tuple[ssl.SSLContext, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    context, _ = authority
    async with serving(ssl_context=context) as server:
        path = str(kubeconfig(tmp_path / "c", server.url))
        with pytest.raises(TimeoutError):
            await nodes_seen(AccessOptions(kubeconfig=path), seconds=0.7)
    assert "certificate verify failed" in caplog.text
    assert len([record for record in caplog.records if record.name == "kpng.kube.source"]) == 4


async def test_a_wrong_token_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(token="secret") as server:
        path = kubeconfig(tmp_path / "c", server.url, {"token": "wrong"})
        with pytest.raises(TimeoutError):
            await nodes_seen(AccessOptions(kubeconfig=str(path)), seconds=1.5)
    assert f"nodes at {server.url}: HTTP 401: " in caplog.text


async def test_a_token_that_was_renewed_is_read_anew(tmp_path: Path) -> None:
    """The token in the file changes while we run, as that of a cloud's login tool or a projected volume does."""
    store = Store()
    async with serving(token="first") as server:
        path = kubeconfig(tmp_path / "c", server.url, {"token": "first"})
        options = KubeOptions(AccessOptions(kubeconfig=str(path)))
        task = asyncio.create_task(KubeSource(options, ProblemLog()).run(store))
        await until(lambda: "n1" in store.snapshot.nodes)
        kubeconfig(path, server.url, {"token": "second"})
        port = int(server.url.rpartition(":")[2])
    async with serving(port, token="second") as successor:
        successor.load([{**NODE, "metadata": {"name": "n2"}}])
        await until(lambda: "n2" in store.snapshot.nodes, seconds=4)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class ShortLived(Minted):
    """Grants that have expired as soon as they are there."""

    def __init__(self) -> None:
        super().__init__()
        self.minted = 0

    async def mint(self) -> Grant:
        self.minted += 1
        return bearer(f"t{self.minted}", expires=0.0)


async def test_a_request_needs_one_grant(authority: tuple[ssl.SSLContext, bytes]) -> None:
    """Else a plugin runs twice for each, and the token and the certificate may be of two of its answers."""
    context, certificate = authority
    credentials = ShortLived()
    async with serving(token="t1", ssl_context=context) as server:
        access = Access(server.url, credentials, TLSContexts(TLSFiles(authority_data=certificate)))
        async with KubeClient(AccessOptions(), access) as client:
            assert b"n1" in await client.read(Request("/api/v1/nodes", {}, stream=False))
    assert credentials.minted == 1
