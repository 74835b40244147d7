"""ID tokens, refreshed at an issuer that really runs, over TLS with a CA of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from tests.kube.small_cluster import NAME, write_netrc

from kpng.kube import AccessOptions, KubeOptions, KubeSource
from kpng.kube.access import load_access
from kpng.kube.credentials import CredentialsError
from kpng.kube.oidc import Oidc
from kpng.lab.apiserver import ApiServer
from kpng.lab.certificates import CertificateAuthority
from kpng.model import ProblemLog, UserError
from kpng.store import Store


def id_token(seconds: float | None = 3600, **claims: Any) -> str:
    """A JWT that expires in so many seconds."""
    if seconds is not None:
        claims["exp"] = int(time.time() + seconds)
    parts = ({"alg": "RS256"}, claims, "signature")
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


class Issuer:
    """Refreshes tokens, each refresh token once; notes what was asked of it."""

    def __init__(self) -> None:
        self.refresh_token = "first"
        self.rotates = True
        self.next_id_token = id_token()
        self.asked: list[tuple[dict[str, Any], str]] = []
        self.failing = 0
        self.url = self.base = ""
        self.hosts: list[str] = []

    @contextlib.asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Issuer]:
        app = web.Application()
        app.router.add_get("/realm/.well-known/openid-configuration", self._discover)
        app.router.add_post("/tokens", self._tokens)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.base = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        self.url = f"{self.base}/realm"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _discover(self, request: web.Request) -> web.Response:
        self.hosts.append(request.host)
        if self.failing:
            raise web.HTTPServiceUnavailable
        return web.json_response({"issuer": self.url, "token_endpoint": f"{self.base}/tokens"})

    async def _tokens(self, request: web.Request) -> web.Response:
        self.hosts.append(request.host)
        form = dict(await request.post())
        self.asked.append((form, request.headers.get("Authorization", "")))
        if form["refresh_token"] != self.refresh_token:
            return web.json_response({"error": "invalid_grant"}, status=400)
        answer = {"id_token": self.next_id_token, "token_type": "Bearer"}
        if self.rotates:
            self.refresh_token = answer["refresh_token"] = f"{self.refresh_token}+"
        return web.json_response(answer)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer().serving() as serving:
        yield serving


def settings(issuer: Issuer, **more: str) -> dict[str, str]:
    given = {
        "idp-issuer-url": issuer.url,
        "client-id": "kpng",
        "client-secret": "a b",
        "refresh-token": "first",
        "id-token": id_token(-60),
    }
    return {name: value for name, value in (given | more).items() if value}


async def test_a_token_that_lasts_is_used_as_it_is(issuer: Issuer) -> None:
    lasting = id_token()
    assert (await Oidc(settings(issuer, **{"id-token": lasting})).get()).authorization == f"Bearer {lasting}"
    assert issuer.asked == []


@pytest.mark.parametrize("old", [id_token(-60), id_token(5), ""], ids=["expired", "about to", "none"])
async def test_a_token_that_does_not_is_refreshed(issuer: Issuer, old: str) -> None:
    oidc = Oidc(settings(issuer, **{"id-token": old}))
    grants = await asyncio.gather(oidc.get(), oidc.get(), oidc.get())
    assert {grant.authorization for grant in grants} == {f"Bearer {issuer.next_id_token}"}
    ((form, authorization),) = issuer.asked
    assert form == {"grant_type": "refresh_token", "refresh_token": "first"}
    assert authorization == "Basic " + base64.b64encode(b"kpng:a+b").decode()  # RFC 6749, section 2.3.1


async def test_a_client_without_a_secret_names_itself_in_the_form(issuer: Issuer) -> None:
    await Oidc(settings(issuer, **{"client-secret": ""})).get()
    ((form, authorization),) = issuer.asked
    assert (form["client_id"], authorization) == ("kpng", "")


@pytest.mark.parametrize("rotates", [True, False])
async def test_the_refresh_token_of_the_last_answer_is_used(issuer: Issuer, rotates: bool) -> None:
    issuer.rotates = rotates
    issuer.next_id_token = id_token(1)
    oidc = Oidc(settings(issuer))
    for _ in range(3):
        await oidc.get()
    used = [form["refresh_token"] for form, _ in issuer.asked]
    assert used == (["first", "first+", "first++"] if rotates else ["first"] * 3)


async def test_a_successor_goes_on_with_its_tokens(issuer: Issuer) -> None:
    """When all is read anew, the refresh token in the file may have been used up."""
    before, after, other = (
        Oidc(settings(issuer)),
        Oidc(settings(issuer)),
        Oidc(settings(issuer) | {"client-id": "x"}),
    )
    await before.get()
    after.succeed(before)
    other.succeed(before)
    assert (await after.get()).authorization == f"Bearer {issuer.next_id_token}"
    with pytest.raises(CredentialsError, match="HTTP 400"):
        await other.get()


@pytest.mark.parametrize("token", ["no-jwt", "a.b.c", id_token(None)])
async def test_a_token_that_does_not_say_when_it_expires_is_used(issuer: Issuer, token: str) -> None:
    assert (await Oidc(settings(issuer, **{"id-token": token})).get()).authorization == f"Bearer {token}"


@pytest.mark.parametrize("secret", ["", "a b"])
async def test_no_password_but_the_client_secret_is_sent(
    issuer: Issuer, secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_netrc(tmp_path, monkeypatch)
    await Oidc(settings(issuer, **{"client-secret": secret})).get()
    ((_, authorization),) = issuer.asked
    assert authorization == ("Basic " + base64.b64encode(b"kpng:a+b").decode() if secret else "")


async def test_an_issuer_behind_a_proxy(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the issuer itself that plays the proxy here: aiohttp's server takes whole URLs too."""
    monkeypatch.setenv("HTTP_PROXY", issuer.url.removesuffix("/realm"))
    monkeypatch.setenv("NO_PROXY", "elsewhere")
    issuer.base = f"http://{NAME}"
    config = settings(issuer, **{"idp-issuer-url": f"http://{NAME}/realm"})
    assert (await Oidc(config).get()).authorization == f"Bearer {issuer.next_id_token}"
    assert issuer.hosts == [NAME, NAME]


async def test_an_issuer_in_trouble_is_asked_again(issuer: Issuer) -> None:
    oidc = Oidc(settings(issuer))
    issuer.failing = 1
    with pytest.raises(CredentialsError, match="HTTP 503"):
        await oidc.get()
    issuer.failing = 0
    assert (await oidc.get()).authorization.startswith("Bearer ")


async def test_an_issuer_that_is_not_there() -> None:
    config = {"idp-issuer-url": "http://127.0.0.1:1", "client-id": "c", "refresh-token": "r"}
    with pytest.raises(CredentialsError, match=r"^oidc: http://127.0.0.1:1: "):
        await Oidc(config).get()


async def test_without_a_refresh_token(issuer: Issuer) -> None:
    with pytest.raises(CredentialsError, match="expired, and there is no refresh token"):
        await Oidc(settings(issuer, **{"refresh-token": ""})).get()


@pytest.mark.parametrize("missing", ["idp-issuer-url", "client-id"])
def test_what_is_needed(missing: str) -> None:
    config = {"idp-issuer-url": "http://a", "client-id": "c"}
    del config[missing]
    with pytest.raises(UserError, match="idp-issuer-url and client-id are needed"):
        Oidc(config)


async def test_over_tls_with_its_own_ca_and_not_without(tmp_path: Path) -> None:
    """A refresh token is as good as a password: nobody but the issuer may get it."""
    authority = CertificateAuthority(tmp_path)
    pair = authority.issue("issuer", "IP:127.0.0.1")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pair.certificate, pair.key)
    data = base64.b64encode((tmp_path / "ca.crt").read_bytes()).decode()
    async with Issuer().serving(tls) as issuer:
        with pytest.raises(CredentialsError, match="certificate verify failed"):
            await Oidc(settings(issuer)).get()
        assert issuer.asked == []
        issuer.rotates = False
        for trust in (
            {"idp-certificate-authority-data": data},
            {"idp-certificate-authority": authority.certificate},
        ):
            assert (await Oidc(settings(issuer, **trust)).get()).authorization == f"Bearer {issuer.next_id_token}"


async def test_from_an_expired_token_in_a_kubeconfig_to_the_cluster(issuer: Issuer, tmp_path: Path) -> None:
    server = ApiServer(token=issuer.next_id_token)
    server.load([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}])
    await server.start()
    user = {"auth-provider": {"name": "oidc", "config": settings(issuer)}}
    (tmp_path / "c").write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": server.url}}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    options = AccessOptions(kubeconfig=str(tmp_path / "c"))
    store = Store()
    task = asyncio.create_task(KubeSource(KubeOptions(options), ProblemLog()).run(store))
    async with asyncio.timeout(10):
        while not store.snapshot.complete:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await server.stop()
    assert list(store.snapshot.nodes) == ["n1"]
    assert len(issuer.asked) == 1


async def test_other_providers_are_refused(tmp_path: Path) -> None:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "http://a"}}],
        "users": [{"name": "u", "user": {"auth-provider": {"name": "gcp"}}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "c").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="auth-provider 'gcp' is not known"):
        await load_access(AccessOptions(kubeconfig=str(tmp_path / "c")))
