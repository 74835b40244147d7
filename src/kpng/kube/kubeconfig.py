"""kubeconfig files: read, merged as kubectl merges them, and the part that counts.

Ours and no library's: that of kubernetes_asyncio brings a thousand API models (37 MB, a second), refreshes OIDC
tokens without checking the issuer's certificate, writes keys to disk, and asks plugins and reads files but once.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import Any, TypeVar

import msgspec
import yaml
from msgspec import Struct, field

from kpng.model import UserError
from kpng.model.shape import split_validation_error

T = TypeVar("T")

EXEC_EXTENSION = "client.authentication.k8s.io/exec"
"""The cluster's extension that exec plugins are given (client-go)."""


class Extension(Struct):
    """An entry of ``extensions``."""

    name: str = ""
    extension: Any = None


class Cluster(Struct, kw_only=True, rename="kebab"):
    """``clusters[].cluster``."""

    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    extensions: list[Extension] = []


class EnvironmentVariable(Struct):
    """An entry of ``exec.env``."""

    name: str
    value: str = ""


class Exec(Struct, kw_only=True, rename="camel"):
    """``users[].user.exec``: a program that prints credentials."""

    api_version: str
    command: str
    args: list[str] | None = None
    env: list[EnvironmentVariable] | None = None
    interactive_mode: str = ""
    provide_cluster_info: bool = False
    install_hint: str = ""


class AuthProvider(Struct):
    """``users[].user.auth-provider``."""

    name: str
    config: dict[str, str] | None = None


class User(Struct, kw_only=True, rename="kebab"):
    """``users[].user``."""

    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = field(name="tokenFile", default="")
    username: str = ""
    password: str = ""
    exec: Exec | None = None
    auth_provider: AuthProvider | None = None


class Context(Struct, kw_only=True):
    """``contexts[].context``."""

    cluster: str = ""
    user: str = ""


class _Named(Struct, kw_only=True):
    name: str
    cluster: Cluster | None = None
    user: User | None = None
    context: Context | None = None


class _File(Struct, kw_only=True):
    clusters: list[_Named] | None = None
    users: list[_Named] | None = None
    contexts: list[_Named] | None = None
    current_context: str | None = field(name="current-context", default=None)


class Kubeconfig(Struct):
    """What the current context selects; relative paths have become absolute."""

    cluster: Cluster
    user: User


def load_kubeconfig(paths: str) -> Kubeconfig:
    """Read the files of a list as in ``$KUBECONFIG``; the first to name something counts. Raises `UserError`."""
    files = [_read(path) for path in paths.split(os.pathsep) if os.path.isfile(path)]
    if not files:
        raise UserError("no such file")
    current = next((file.current_context for file in files if file.current_context), "")
    if not current:
        raise UserError("no current-context")
    context = _named(files, "context", current).context or Context()
    cluster = _named(files, "cluster", context.cluster).cluster or Cluster()
    user = (_named(files, "user", context.user).user if context.user else None) or User()
    if not cluster.server:
        raise UserError(f"cluster {context.cluster!r} has no server")
    return Kubeconfig(cluster, user)


def decoded(data: str, what: str) -> bytes:
    """The bytes of a ``...-data`` field. Raises `UserError`."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise UserError(f"{what} is not base64") from None


def _read(path: str) -> _File:
    try:
        with open(path, "rb") as file:
            data = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        config = msgspec.convert({} if data is None else data, _File)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UserError(f"not YAML: {' '.join(str(error).split())}") from error
    except msgspec.ValidationError as error:
        raise UserError(": ".join(filter(None, split_validation_error(error)))) from error
    _resolve_paths(config, os.path.dirname(os.path.abspath(path)))
    return config


def _named(files: list[_File], kind: str, name: str) -> _Named:
    for file in files:
        for entry in getattr(file, f"{kind}s") or ():
            if entry.name == name:
                return entry  # type: ignore[no-any-return]
    raise UserError(f"no {kind} named {name!r}")


def _resolve_paths(config: _File, folder: str) -> None:
    """Paths are relative to the file they are in; so is a plugin's with a slash (others are found by $PATH)."""
    for entry in config.clusters or ():
        if entry.cluster and entry.cluster.certificate_authority:
            entry.cluster.certificate_authority = os.path.join(folder, entry.cluster.certificate_authority)
    for entry in config.users or ():
        user = entry.user or User()
        for name in ("client_certificate", "client_key", "token_file"):
            if path := getattr(user, name):
                setattr(user, name, os.path.join(folder, path))
        if user.exec and os.sep in user.exec.command:
            user.exec.command = os.path.join(folder, user.exec.command)
