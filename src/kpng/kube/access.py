"""How to reach and convince the API server: a kubeconfig, the pod's service account, or a plain URL."""

from __future__ import annotations

import os
import ssl
from urllib.parse import urlsplit

from msgspec import Struct

from kpng.model import UserError

from .credentials import Credentials, CredentialsError, Fixed, Grant, TokenFile, basic, bearer
from .exec_plugin import ExecPlugin
from .kubeconfig import AuthProvider, Cluster, Kubeconfig, User, decoded, load_kubeconfig
from .oidc import Oidc
from .proxies import proxy_for
from .tls import TLSContexts, TLSFiles

_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_ANONYMOUS = Fixed(Grant())


class AccessOptions(Struct, frozen=True):
    """The user's flags; "" where not given."""

    kubeconfig: str = ""
    server: str = ""


class Access:
    """A server, and what requests to it carry. Credentials and certificates are those of the moment: files that are
    replaced are read again, what expires is renewed. Without a ``proxy``, that of the environment counts."""

    def __init__(
        self,
        server: str,
        credentials: Credentials = _ANONYMOUS,
        tls: TLSContexts | None = None,
        proxy: str = "",
        server_hostname: str = "",
    ) -> None:
        self.server = server.rstrip("/")
        self.proxy = proxy or proxy_for(server)
        self.server_hostname = server_hostname or None
        self.credentials = credentials
        self._tls = tls if self.server.startswith("https:") else None

    async def authenticate(self) -> tuple[dict[str, str], ssl.SSLContext | None]:
        """The headers and the TLS context (None: nothing special) for one request, both of the same grant.
        Raises `CredentialsError`."""
        grant = await self.credentials.get()
        headers = {"Authorization": grant.authorization} if grant.authorization else {}
        try:
            return headers, self._tls.get(grant.identity) if self._tls else None
        except UserError as error:
            raise CredentialsError(str(error)) from error


async def load_access(options: AccessOptions, before: Access | None = None) -> Access:
    """Find the server: ``--kubeconfig``, else ``--server`` alone (without credentials), else $KUBECONFIG, else
    the pod's service account, else ~/.kube/config. ``--server`` replaces the address in a ``--kubeconfig``.

    Everything is read anew, but for what only the access ``before`` knows. Raises `kpng.UserError`.
    """
    if options.server and not _is_url(options.server):
        raise UserError(f"--server {options.server}: not an http:// or https:// URL")
    if options.server and not options.kubeconfig:
        return Access(options.server)
    path = options.kubeconfig or os.environ.get("KUBECONFIG", "")
    if path:
        return _from_kubeconfig(path, options.server, before)
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return _in_cluster()
    if home := _home_kubeconfig():
        return _from_kubeconfig(home, "", before)
    raise UserError("no API server given: use --kubeconfig FILE or --server URL, or set KUBECONFIG")


def _home_kubeconfig() -> str:
    path = os.path.expanduser("~/.kube/config")
    return path if os.path.isfile(path) else ""


def _from_kubeconfig(path: str, server: str, before: Access | None) -> Access:
    try:
        access = _access(load_kubeconfig(path), server)
    except UserError as error:
        raise UserError(f"kubeconfig {path}: {error}") from error
    if before and isinstance(before.credentials, Oidc) and isinstance(access.credentials, Oidc):
        access.credentials.succeed(before.credentials)
    return access


def _is_url(text: str) -> bool:
    """Whether an HTTP client can use it: it has a host, and a port, if any, that is one."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _access(config: Kubeconfig, server: str) -> Access:
    cluster, user = config.cluster, config.user
    server = server or cluster.server
    if not _is_url(server):
        raise UserError(f"server {server}: not an http:// or https:// URL")
    if cluster.proxy_url and not _is_url(cluster.proxy_url):
        raise UserError(f"proxy-url {cluster.proxy_url}: only http:// and https:// proxies are supported")
    tls = TLSContexts(_tls_files(cluster, user))
    if server.startswith("https:"):
        tls.get()  # the user is told at once of what is wrong with the files
    return Access(server, _credentials(user, cluster), tls, cluster.proxy_url, cluster.tls_server_name)


def _tls_files(cluster: Cluster, user: User) -> TLSFiles:
    """Data counts before a file (client-go)."""
    return TLSFiles(
        authority=cluster.certificate_authority,
        authority_data=decoded(cluster.certificate_authority_data, "certificate-authority-data"),
        certificate=user.client_certificate,
        certificate_data=decoded(user.client_certificate_data, "client-certificate-data"),
        key=user.client_key,
        key_data=decoded(user.client_key_data, "client-key-data"),
        verify=not cluster.insecure_skip_tls_verify,
    )


def _credentials(user: User, cluster: Cluster) -> Credentials:
    """What counts where there are several: a token before a plugin, as for kubectl."""
    if user.token_file:
        return TokenFile(user.token_file)
    if user.token:
        return Fixed(bearer(user.token.strip()))
    if user.username:
        return Fixed(basic(user.username, user.password))
    if user.exec:
        return ExecPlugin(user.exec, cluster)
    return _auth_provider(user.auth_provider) if user.auth_provider else _ANONYMOUS


def _auth_provider(provider: AuthProvider) -> Credentials:
    if provider.name == "oidc":
        return Oidc(provider.config or {})
    raise UserError(f"auth-provider {provider.name!r} is not known (oidc); kubectl uses exec plugins instead")


def _in_cluster() -> Access:
    """As the kubelet gives it to each pod (KEP-1205): files that it replaces."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    token, authority = f"{_SERVICE_ACCOUNT}/token", f"{_SERVICE_ACCOUNT}/ca.crt"
    for path in (token, authority):
        if not os.path.isfile(path):
            raise UserError(f"in-cluster configuration: {path}: no such file")
    tls = TLSContexts(TLSFiles(authority))
    try:
        tls.get()
    except UserError as error:
        raise UserError(f"in-cluster configuration: {error}") from error
    return Access(f"https://{f'[{host}]' if ':' in host else host}:{port}", TokenFile(token), tls)
