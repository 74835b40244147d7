"""Credentials, certificates, proxies and addresses, changing while a cluster is followed; real TLS and proxies."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kube.small_cluster import NAME, add, following, resolving, seen, serving

from kpng.kube import AccessOptions, KubeOptions, KubeSource
from kpng.lab.apiserver import ApiServer
from kpng.lab.certificates import CertificateAuthority, KeyPair
from kpng.model import ProblemLog
from kpng.store import Store


@pytest.fixture(autouse=True)
def _no_other_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(_made(tmp_path / "ca"))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def server_tls(authority: CertificateAuthority, clients: CertificateAuthority | None = None) -> ssl.SSLContext:
    """A server's TLS; with ``clients``, only for those with a certificate of that authority."""
    pair = authority.issue("server", "IP:127.0.0.1", "IP:127.0.0.2", f"DNS:{NAME}")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.certificate)
    return context


def write_config(path: Path, server: str, user: dict[str, Any] | None = None, **cluster: Any) -> AccessOptions:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": server} | cluster}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(config))
    return AccessOptions(kubeconfig=str(path))


def trusting(authority: CertificateAuthority) -> dict[str, str]:
    return {"certificate-authority": authority.certificate}


def port_of(server: ApiServer) -> int:
    return int(server.url.rpartition(":")[2])


# -- client certificates -----------------------------------------------------------------------------------------


def as_data(pair: KeyPair) -> dict[str, str]:
    return {
        f"client-{part}-data": base64.b64encode(Path(path).read_bytes()).decode()
        for part, path in (("certificate", pair.certificate), ("key", pair.key))
    }


@pytest.mark.parametrize("how", ["files", "data", "plugin", "none"])
async def test_a_client_certificate(how: str, authority: CertificateAuthority, tmp_path: Path) -> None:
    pair = authority.issue("admin")
    user: dict[str, Any] = {}
    if how == "files":
        user = {"client-certificate": pair.certificate, "client-key": pair.key}
    elif how == "data":
        user = as_data(pair)
    elif how == "plugin":
        certificate, key = (base64.b64decode(data).decode() for data in as_data(pair).values())
        user = plugin_user(tmp_path / "login", clientCertificateData=certificate, clientKeyData=key)
    async with serving("n1", ssl_context=server_tls(authority, authority)) as server:
        options = write_config(tmp_path / "c", server.url, user, **trusting(authority))
        async with following(options) as store:
            if how == "none":
                with pytest.raises(TimeoutError):
                    await seen(store, "n1", 1.0)
                assert "n1" not in store.snapshot.nodes
            else:
                await seen(store, "n1")


def plugin_user(path: Path, **status: Any) -> dict[str, Any]:
    version = "client.authentication.k8s.io/v1"
    made = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})
    path.write_text(f"#!/bin/sh\necho run >> {path}.log\ncat <<'EOF'\n{made}\nEOF\n")
    path.chmod(0o755)
    return {"exec": {"apiVersion": version, "command": str(path), "interactiveMode": "Never"}}


async def test_certificates_that_are_replaced_are_used_without_a_restart(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    """Both sides change: the server trusts another authority's clients, and has a certificate of that one too."""
    newer = CertificateAuthority(_made(tmp_path / "newer"))
    ca, crt, key = (str(tmp_path / name) for name in ("ca.pem", "crt.pem", "key.pem"))
    install(authority, ca, crt, key)
    user = {"client-certificate": crt, "client-key": key}
    async with serving("n1", ssl_context=server_tls(authority, authority)) as server:
        port = port_of(server)
        options = write_config(tmp_path / "c", server.url, user, **{"certificate-authority": ca})
        async with following(options) as store:
            await seen(store, "n1")
            await server.stop()
            async with serving("n1", port=port, ssl_context=server_tls(newer, newer)) as successor:
                add(successor, "n2")
                await asyncio.sleep(0.3)
                assert "n2" not in store.snapshot.nodes
                install(newer, ca, crt, key)
                await seen(store, "n2")


def install(authority: CertificateAuthority, ca: str, crt: str, key: str) -> None:
    pair = authority.issue("admin")
    for source, target in ((authority.certificate, ca), (pair.certificate, crt), (pair.key, key)):
        shutil.copy(source, f"{target}.new")
        os.rename(f"{target}.new", target)


# -- tokens ------------------------------------------------------------------------------------------------------


def runs(path: Path) -> int:
    return len(Path(f"{path}.log").read_text().splitlines())


async def test_a_token_from_a_plugin_that_is_refused_is_minted_again(tmp_path: Path) -> None:
    """It did not say when it expires."""
    path = tmp_path / "login"
    user = plugin_user(path, token="first")
    async with serving("n1", token="first") as server:
        port = port_of(server)
        async with following(write_config(tmp_path / "c", server.url, user)) as store:
            await seen(store, "n1")
            await server.stop()
            plugin_user(path, token="second")
            async with serving("n1", port=port, token="second") as successor:
                add(successor, "n2")
                await seen(store, "n2")
    assert runs(path) == 2


async def test_a_plugin_in_trouble_is_told_once_and_run_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "login"
    user = plugin_user(path, token="t")
    path.write_text("#!/bin/sh\necho no network >&2; exit 1\n")
    async with (
        serving("n1", token="t") as server,
        following(write_config(tmp_path / "c", server.url, user)) as store,
    ):
        await asyncio.sleep(0.5)
        plugin_user(path, token="t")
        await seen(store, "n1")
    told = [record.getMessage() for record in caplog.records if record.name == "kpng.kube.source"]
    assert len(told) == 4  # one a resource
    assert all(f": exec plugin {path}: exit code 1: no network; trying again in " in line for line in told)


@pytest.fixture
def pod(tmp_path: Path, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a pod finds in its service account's folder."""
    folder = _made(tmp_path / "serviceaccount")
    shutil.copy(authority.certificate, folder / "ca.crt")
    (folder / "token").write_text("first")
    monkeypatch.setattr("kpng.kube.access._SERVICE_ACCOUNT", str(folder))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    return folder


async def test_in_a_pod_whose_token_is_rotated(
    pod: Path, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = server_tls(authority)
    async with serving("n1", token="first", ssl_context=tls) as server:
        port = port_of(server)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
        async with following(AccessOptions()) as store:
            await seen(store, "n1")
            (pod / "token").write_text("second")
            await server.stop()
            async with serving("n1", port=port, token="second", ssl_context=tls) as successor:
                add(successor, "n2")
                await seen(store, "n2", 3.0)


# -- proxies -----------------------------------------------------------------------------------------------------


class ConnectProxy:
    """An HTTP proxy for CONNECT (RFC 9110, section 9.3.6). It knows where NAME is; ``asked`` has its targets,
    ``authorizations`` who asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.authorizations: set[str] = set()
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[ConnectProxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            method, target, _ = (await reader.readline()).decode().split()
            while line := (await reader.readline()).decode().strip():
                name, _, value = line.partition(": ")
                if name == "Proxy-Authorization":
                    self.authorizations.add(value)
            self.asked.append(f"{method} {target}")
            there = await asyncio.open_connection("127.0.0.1", int(target.rpartition(":")[2]))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
        finally:
            self._tasks.discard(task)
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[ConnectProxy]:
    async with ConnectProxy().serving() as serving_proxy:
        yield serving_proxy


PASSWORD = "Basic " + base64.b64encode(b"joe:p@ss").decode()


@pytest.mark.parametrize("user", ["", "joe:p%40ss@"], ids=["anybody", "joe"])
@pytest.mark.parametrize("how", ["proxy-url", "environment"])
async def test_through_a_proxy(
    how: str,
    user: str,
    proxy: ConnectProxy,
    authority: CertificateAuthority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy_url = proxy.url.replace("://", f"://{user}")
    if how == "environment":
        monkeypatch.setenv("HTTPS_PROXY", proxy_url)
    given: dict[str, Any] = {"proxy-url": proxy_url} if how == "proxy-url" else {}
    async with serving("n1", token="t", ssl_context=server_tls(authority)) as server:
        url = f"https://{NAME}:{port_of(server)}"
        options = write_config(tmp_path / "c", url, {"token": "t"}, **trusting(authority), **given)
        async with following(options) as store:
            await seen(store, "n1")
    assert set(proxy.asked) == {f"CONNECT {NAME}:{port_of(server)}"}
    assert proxy.authorizations == ({PASSWORD} if user else set())


async def test_not_through_the_proxy_for_what_it_is_not_for(
    proxy: ConnectProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for what $NO_PROXY names, nor for the machine itself."""
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", ".example")
    async with serving("n1") as server:
        for host in (NAME, "127.0.0.1"):
            with resolving({NAME: ["127.0.0.1"]}):
                options = write_config(tmp_path / "c", f"http://{host}:{port_of(server)}")
                async with following(options) as store:
                    await seen(store, "n1")
    assert proxy.asked == []


async def test_a_proxy_of_another_kind_is_refused(tmp_path: Path) -> None:
    options = write_config(tmp_path / "c", "https://a", None, **{"proxy-url": "socks5://127.0.0.1:1080"})
    with pytest.raises(Exception, match="only http:// and https:// proxies are supported"):
        await KubeSource(KubeOptions(options), ProblemLog()).run(Store())


# -- several servers behind one name -----------------------------------------------------------------------------


async def test_the_first_of_two_servers_is_dead() -> None:
    async with serving("n1", "127.0.0.1") as server:
        with resolving({NAME: ["127.0.0.2", "127.0.0.1"]}):
            async with following(AccessOptions(server=f"http://{NAME}:{port_of(server)}")) as store:
                await seen(store, "n1")


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_server_that_dies_is_replaced_by_the_other(
    tls: bool, authority: CertificateAuthority, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"ssl_context": server_tls(authority)} if tls else {}
    async with serving("n1", "127.0.0.1", **given) as first:
        port = port_of(first)
        async with serving("n1", "127.0.0.2", port, **given) as second:
            with resolving({NAME: ["127.0.0.1", "127.0.0.2"]}):
                url = f"http{'s' if tls else ''}://{NAME}:{port}"
                options = write_config(tmp_path / "c", url, None, **(trusting(authority) if tls else {}))
                async with following(options) as store:
                    await seen(store, "n1")
                    await first.stop()
                    add(second, "n2")
                    await seen(store, "n2")
