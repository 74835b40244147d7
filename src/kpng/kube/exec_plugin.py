"""Exec credential plugins (KEP-541): programs that print a token or a client certificate."""

from __future__ import annotations

import asyncio
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct, field

from kpng.model import UserError

from .credentials import CredentialsError, Grant, Minted, bearer
from .kubeconfig import EXEC_EXTENSION, Cluster, Exec

_GROUP = "client.authentication.k8s.io"
_VERSIONS = (f"{_GROUP}/v1", f"{_GROUP}/v1beta1")
_SECONDS = 60.0
_SHOWN = 300


class _Status(Struct, rename="camel"):
    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: datetime | None = None


class _Credential(Struct, rename="camel"):
    api_version: str
    kind: str
    status: _Status | None = field(default=None)


_decoder = msgspec.json.Decoder(_Credential)


class ExecPlugin(Minted):
    """Runs the plugin where there is no answer of its that still counts. It gets no terminal: we are a daemon."""

    def __init__(self, config: Exec, cluster: Cluster) -> None:
        super().__init__()
        _check(config)
        self._config = config
        self._information = _information(config, cluster)

    async def mint(self) -> Grant:
        config = self._config
        environment = os.environ | {each.name: each.value for each in config.env or ()}
        environment["KUBERNETES_EXEC_INFO"] = self._information
        try:
            process = await asyncio.create_subprocess_exec(
                config.command, *(config.args or ()), env=environment, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
            )
        except OSError as error:
            raise self._error(error.strerror or str(error)) from error
        output, complaint = await self._finish(process)
        if process.returncode:
            said = " ".join(complaint.decode(errors="replace").split())[:_SHOWN]
            raise self._error(f"exit code {process.returncode}{': ' if said else ''}{said}")
        return self._grant_of(output)

    async def _finish(self, process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
        try:
            async with asyncio.timeout(_SECONDS):
                return await process.communicate()
        except TimeoutError as error:
            raise self._error(f"no answer in {_SECONDS:.0f} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _grant_of(self, output: bytes) -> Grant:
        try:
            credential = _decoder.decode(output)
        except msgspec.DecodeError as error:
            raise self._error(f"not an ExecCredential: {error}") from error
        status = credential.status or _Status()
        if credential.kind != "ExecCredential" or credential.api_version != self._config.api_version:
            raise self._error(f"not an ExecCredential of {self._config.api_version}")
        expires = status.expiration_timestamp.timestamp() if status.expiration_timestamp else None
        token = bearer(status.token, expires) if status.token else Grant(expires=expires)
        if status.client_certificate_data and status.client_key_data:
            identity = status.client_certificate_data.encode(), status.client_key_data.encode()
            return Grant(token.authorization, identity, expires)
        if not status.token:
            raise self._error("neither a token nor a certificate with its key")
        return token

    def _error(self, message: str) -> CredentialsError:
        return CredentialsError(f"exec plugin {self._config.command}: {message}")


def _check(config: Exec) -> None:
    """Raises `UserError` for what no later attempt would mend."""
    if config.api_version not in _VERSIONS:
        raise UserError(f"exec: apiVersion {config.api_version!r} is not known ({', '.join(_VERSIONS)})")
    if config.interactive_mode == "Always":
        raise UserError(f"exec: {config.command} needs a terminal (interactiveMode Always)")
    if shutil.which(config.command) is None:
        hint = f"; {' '.join(config.install_hint.split())}" if config.install_hint else ""
        raise UserError(f"exec: {config.command}: no such program{hint}")


def _information(config: Exec, cluster: Cluster) -> str:
    """What the plugin finds in KUBERNETES_EXEC_INFO."""
    spec: dict[str, Any] = {"interactive": False}
    if config.provide_cluster_info:
        given = {
            "server": cluster.server,
            "tls-server-name": cluster.tls_server_name,
            "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
            "certificate-authority-data": _authority(cluster),
            "proxy-url": cluster.proxy_url,
            "config": next((each.extension for each in cluster.extensions if each.name == EXEC_EXTENSION), None),
        }
        spec["cluster"] = {name: value for name, value in given.items() if value}
    made = {"apiVersion": config.api_version, "kind": "ExecCredential", "spec": spec}
    return msgspec.json.encode(made).decode()


def _authority(cluster: Cluster) -> bytes | str:
    """The content, also where a file is given (msgspec writes bytes as base64)."""
    if cluster.certificate_authority_data or not cluster.certificate_authority:
        return cluster.certificate_authority_data
    try:
        with open(cluster.certificate_authority, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{cluster.certificate_authority}: {error.strerror}") from error
