"""OpenID Connect, as kubectl's auth-provider "oidc": an ID token, refreshed at its issuer when it expires."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote_plus

import aiohttp
import msgspec
from msgspec import Struct

from kpng.model import UserError

from .credentials import CredentialsError, Grant, Minted, bearer
from .kubeconfig import decoded
from .proxies import proxy_for
from .tls import TLSContexts, TLSFiles

T = TypeVar("T", bound=Struct)

_SECONDS = 30.0


class _Provider(Struct):
    """OpenID Connect Discovery 1.0, section 3."""

    token_endpoint: str


class _Tokens(Struct):
    """OpenID Connect Core 1.0, section 12.2."""

    id_token: str
    refresh_token: str | None = None


class _Claims(Struct):
    exp: float | None = None


class Oidc(Minted):
    """The kubeconfig's ID token while it lasts, then refreshed ones. A new refresh token is kept in memory only."""

    def __init__(self, config: Mapping[str, str]) -> None:
        super().__init__()
        self.given = dict(config)
        self._issuer = config.get("idp-issuer-url", "").rstrip("/")
        if not self._issuer or not config.get("client-id"):
            raise UserError("auth-provider oidc: idp-issuer-url and client-id are needed")
        self._refresh_token = config.get("refresh-token", "")
        data = decoded(config.get("idp-certificate-authority-data", ""), "idp-certificate-authority-data")
        self._tls = TLSContexts(TLSFiles(config.get("idp-certificate-authority", ""), data))
        if token := config.get("id-token"):
            self._grant = bearer(token, _expiry(token))

    def succeed(self, before: Oidc) -> None:
        """Go on with the tokens of one of the same configuration: its refresh token may be the only one left."""
        if before.given == self.given:
            self._grant, self._refresh_token = before._grant, before._refresh_token

    async def mint(self) -> Grant:
        if not self._refresh_token:
            raise CredentialsError("oidc: the ID token has expired, and there is no refresh token")
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session:
                tokens = await self._refresh(session)
        except (aiohttp.ClientError, OSError, msgspec.DecodeError, UserError) as error:
            raise CredentialsError(f"oidc: {self._issuer}: {error or 'no answer in time'}") from error
        self._refresh_token = tokens.refresh_token or self._refresh_token
        return bearer(tokens.id_token, _expiry(tokens.id_token))

    async def _refresh(self, session: aiohttp.ClientSession) -> _Tokens:
        """RFC 6749, section 6; a client without a secret names itself in the body (section 3.2.1)."""
        tls = self._tls.get()
        discovery = f"{self._issuer}/.well-known/openid-configuration"
        async with session.get(discovery, ssl=tls, proxy=proxy_for(discovery)) as response:
            endpoint = (await _decode(response, _Provider)).token_endpoint
        form = {"grant_type": "refresh_token", "refresh_token": self._refresh_token}
        client, secret = self.given["client-id"], self.given.get("client-secret", "")
        headers = {}
        if secret:
            pair = f"{quote_plus(client)}:{quote_plus(secret)}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form["client_id"] = client
        async with session.post(
            endpoint, data=form, headers=headers, ssl=tls, proxy=proxy_for(endpoint), allow_redirects=False
        ) as response:
            return await _decode(response, _Tokens)


async def _decode(response: aiohttp.ClientResponse, cls: type[T]) -> T:
    if response.status != 200:
        raise CredentialsError(f"oidc: {response.url.origin()}: HTTP {response.status}")
    return msgspec.json.decode(await response.read(), type=cls)


def _expiry(token: str) -> float | None:
    """When a JWT expires; its signature is the API server's business (RFC 7519)."""
    try:
        payload = token.split(".")[1]
        claims = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        return msgspec.json.decode(claims, type=_Claims).exp
    except (IndexError, ValueError):
        return None
