"""How to reach and convince the API server: a kubeconfig, the pod's service account, or a plain URL."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct

from kpng.model import UserError

if TYPE_CHECKING:
    from kubernetes_asyncio.client import Configuration


class AccessOptions(Struct, frozen=True):
    """The user's flags; "" where not given."""

    kubeconfig: str = ""
    server: str = ""


class Access:
    """A server, and what requests to it carry. `headers` may refresh a token."""

    def __init__(self, server: str, config: Configuration | None = None) -> None:
        self.server = server.rstrip("/")
        self._config = config
        self.proxy: str | None = config.proxy if config else None
        self.server_hostname: str | None = config.tls_server_name if config else None
        self.tls = _tls(config) if config and self.server.startswith("https:") else None

    async def headers(self) -> dict[str, str]:
        """The headers that authenticate a request."""
        if self._config is None:
            return {}
        token = (await self._config.auth_settings()).get("BearerToken")
        return {"Authorization": token["value"].strip()} if token and token["value"] else {}


async def load_access(options: AccessOptions) -> Access:
    """Find the server: ``--kubeconfig``, else ``--server`` alone (without credentials), else $KUBECONFIG, else
    the pod's service account, else ~/.kube/config. ``--server`` replaces the address in a ``--kubeconfig``.

    Credentials are read anew with each call. Raises `kpng.UserError`.
    """
    if options.server and urlsplit(options.server).scheme not in ("http", "https"):
        raise UserError(f"--server {options.server}: not an http:// or https:// URL")
    if options.server and not options.kubeconfig:
        return Access(options.server)
    path = options.kubeconfig or os.environ.get("KUBECONFIG", "")
    if path:
        return await _from_kubeconfig(path, options.server)
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return _in_cluster()
    if home := _home_kubeconfig():
        return await _from_kubeconfig(home, "")
    raise UserError("no API server given: use --kubeconfig FILE or --server URL, or set KUBECONFIG")


async def _from_kubeconfig(path: str, server: str) -> Access:
    """kubernetes_asyncio knows all the ways of a kubeconfig (merging, exec plugins, OIDC, ...). It costs 40 MB
    and half a second to import, so only who needs it does."""
    from kubernetes_asyncio.client import Configuration  # noqa: PLC0415
    from kubernetes_asyncio.config import load_kube_config  # noqa: PLC0415

    config = Configuration()
    _check_exists(path)
    try:
        await load_kube_config(config_file=path, client_configuration=config, persist_config=False)
        return Access(server or config.host or "", config)
    except Exception as error:  # the library raises whatever its parts raise; all of it is a bad kubeconfig
        raise UserError(f"kubeconfig {path}: {_one_line(error)}") from error


def _home_kubeconfig() -> str:
    path = os.path.expanduser("~/.kube/config")
    return path if os.path.isfile(path) else ""


def _check_exists(path: str) -> None:
    """$KUBECONFIG may list several files; kubectl minds only if there is none of them."""
    if not any(os.path.isfile(part) for part in path.split(os.pathsep)):
        raise UserError(f"kubeconfig {path}: no such file")


def _in_cluster() -> Access:
    from kubernetes_asyncio.client import Configuration  # noqa: PLC0415
    from kubernetes_asyncio.config import load_incluster_config  # noqa: PLC0415
    from kubernetes_asyncio.config.config_exception import ConfigException  # noqa: PLC0415

    config = Configuration()
    try:
        load_incluster_config(client_configuration=config)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise UserError(f"in-cluster configuration: {_one_line(error)}") from error
    return Access(config.host or "", config)


def _tls(config: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=config.ssl_ca_cert)
    if config.cert_file:
        context.load_cert_chain(config.cert_file, keyfile=config.key_file)
    if not config.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
