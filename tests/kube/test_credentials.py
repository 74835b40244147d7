"""Tokens from files and from programs that really run."""

from __future__ import annotations

import asyncio
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kpng.kube.credentials import CredentialsError, Grant, Minted, TokenFile, basic, bearer
from kpng.kube.exec_plugin import ExecPlugin
from kpng.kube.kubeconfig import EXEC_EXTENSION, Cluster, EnvironmentVariable, Exec, Extension
from kpng.model import UserError

V1 = "client.authentication.k8s.io/v1"


def credential(version: str = V1, **status: Any) -> str:
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


def program(path: Path, *lines: str) -> str:
    path.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    path.chmod(0o755)
    return str(path)


def printing(path: Path, output: str) -> str:
    return program(path, f"echo run >> {path}.log", f"cat <<'EOF'\n{output}\nEOF")


def runs(path: Path) -> int:
    log = Path(f"{path}.log")
    return len(log.read_text().splitlines()) if log.exists() else 0


def plugin(command: str, cluster: Cluster | None = None, version: str = V1, **more: Any) -> ExecPlugin:
    return ExecPlugin(Exec(api_version=version, command=command, **more), cluster or Cluster(server="https://a"))


def in_seconds(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- simple ones -------------------------------------------------------------------------------------------------


def test_headers() -> None:
    assert bearer("t").authorization == "Bearer t"
    assert basic("user", "pässword").authorization == "Basic dXNlcjpww6Rzc3dvcmQ="  # RFC 7617: UTF-8


async def test_a_token_file_that_is_replaced(tmp_path: Path) -> None:
    """As the kubelet replaces projected tokens: a link is switched. The next request has the new one."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"{name}\n")
    (tmp_path / "token").symlink_to("one")
    credentials = TokenFile(str(tmp_path / "token"))
    assert (await credentials.get()).authorization == "Bearer one"
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "token")
    assert (await credentials.get()).authorization == "Bearer two"


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No such file or directory"), (b" \n", "empty"), (b"\xff", "not a token")]
)
async def test_a_token_file_that_cannot_be_used(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(CredentialsError, match=message):
        await TokenFile(str(tmp_path / "token")).get()


class Mint(Minted):
    """Grants that last as long as told."""

    def __init__(self, *lifetimes: float | None) -> None:
        super().__init__()
        self.lifetimes = list(lifetimes)
        self.minted = 0

    async def mint(self) -> Grant:
        await asyncio.sleep(0.01)
        self.minted += 1
        lifetime = self.lifetimes.pop(0)
        return bearer(str(self.minted), None if lifetime is None else time.time() + lifetime)


@pytest.mark.parametrize(("lifetime", "minted"), [(None, 1), (3600, 1), (11, 1), (9, 2), (-5, 2)])
async def test_a_grant_is_used_until_shortly_before_it_expires(lifetime: float | None, minted: int) -> None:
    mint = Mint(lifetime, None)
    await mint.get()
    await mint.get()
    assert mint.minted == minted


async def test_many_requests_share_one_grant() -> None:
    mint = Mint(None)
    grants = await asyncio.gather(*(mint.get() for _ in range(20)))
    assert {grant.authorization for grant in grants} == {"Bearer 1"}


# -- plugins -----------------------------------------------------------------------------------------------------


async def test_a_token_that_expires_is_minted_again_before(tmp_path: Path) -> None:
    path = tmp_path / "login"
    made = plugin(printing(path, credential(token="short", expirationTimestamp=in_seconds(5))))
    assert (await made.get()).authorization == "Bearer short"
    printing(path, credential(token="long", expirationTimestamp=in_seconds(3600)))
    assert (await made.get()).authorization == "Bearer long"
    assert (await made.get()).authorization == "Bearer long"
    assert runs(path) == 2


async def test_a_token_that_does_not_say_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "login"
    made = plugin(printing(path, credential(token="t")))
    await made.get()
    await made.get()
    assert runs(path) == 1


async def test_a_certificate_instead_of_a_token(tmp_path: Path) -> None:
    made = plugin(printing(tmp_path / "x", credential(clientCertificateData="CRT", clientKeyData="KEY")))
    grant = await made.get()
    assert (grant.authorization, grant.identity) == ("", (b"CRT", b"KEY"))


async def test_what_the_plugin_is_told(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("CA")
    cluster = Cluster(
        server="https://a:6443",
        certificate_authority=str(authority),
        tls_server_name="inside",
        extensions=[Extension("other", 1), Extension(EXEC_EXTENSION, {"audience": "x"})],
    )
    seen = tmp_path / "seen"
    command = program(
        tmp_path / "login",
        f'printf "%s" "$KUBERNETES_EXEC_INFO" > {seen}',
        f'echo "$1 $2 $REGION" > {seen}.args',
        "read line && exit 3",  # there is nothing to read, and nobody waits for it
        f"echo '{credential(token='t')}'",
    )
    env = [EnvironmentVariable("REGION", "north")]
    await plugin(command, cluster, args=["get", "token"], env=env, provide_cluster_info=True).get()
    assert json.loads(seen.read_text()) == {
        "apiVersion": V1,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": "https://a:6443",
                "tls-server-name": "inside",
                "certificate-authority-data": "Q0E=",
                "config": {"audience": "x"},
            },
        },
    }
    assert (tmp_path / "seen.args").read_text() == "get token north\n"


FAILING: list[tuple[str, str]] = [
    ("echo 'please  log\nin' >&2; exit 1", "exit code 1: please log in"),
    ("exit 7", "exit code 7"),
    ("kill -9 $$", "exit code -9"),
    ("echo hello", "not an ExecCredential: "),
    (f"echo '{credential()}'", "neither a token nor a certificate with its key"),
    (f"echo '{credential(clientCertificateData='CRT')}'", "neither a token nor a certificate with its key"),
    (f"echo '{credential('client.authentication.k8s.io/v1beta1', token='t')}'", f"not an ExecCredential of {V1}"),
    (f"echo '{credential(token=5)}'", "not an ExecCredential: Expected `str | null`"),
    (f"echo '{credential(token='t', expirationTimestamp='soon')}'", "not an ExecCredential: Invalid RFC3339"),
]


@pytest.mark.parametrize(("script", "message"), FAILING, ids=[message for _, message in FAILING])
async def test_a_plugin_that_fails(tmp_path: Path, script: str, message: str) -> None:
    command = program(tmp_path / "login", script)
    with pytest.raises(CredentialsError) as caught:
        await plugin(command).get()
    assert str(caught.value).startswith(f"exec plugin {command}: {message}")


async def test_a_plugin_that_fails_is_run_again(tmp_path: Path) -> None:
    path = tmp_path / "login"
    made = plugin(program(path, "exit 1"))
    with pytest.raises(CredentialsError):
        await made.get()
    printing(path, credential(token="t"))
    assert (await made.get()).authorization == "Bearer t"


async def test_a_plugin_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kpng.kube.exec_plugin._SECONDS", 0.2)
    command = program(tmp_path / "login", f"echo $$ > {tmp_path}/pid", "exec sleep 60")
    with pytest.raises(CredentialsError, match="no answer in 0 s"):
        await plugin(command).get()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_plugin_that_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "login"
    made = plugin(program(path, "exit 0"))
    path.unlink()
    with pytest.raises(CredentialsError, match="No such file or directory"):
        await made.get()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"command": "kpng-no-such-program"}, "exec: kpng-no-such-program: no such program"),
        (
            {"command": "kpng-no-such-program", "install_hint": "get it\nat example"},
            "exec: kpng-no-such-program: no such program; get it at example",
        ),
        ({"command": "true", "interactive_mode": "Always"}, "exec: true needs a terminal (interactiveMode Always)"),
        (
            {"command": "true", "version": "client.authentication.k8s.io/v1alpha1"},
            "exec: apiVersion 'client.authentication.k8s.io/v1alpha1' is not known"
            " (client.authentication.k8s.io/v1, client.authentication.k8s.io/v1beta1)",
        ),
    ],
)
def test_a_plugin_that_will_never_work(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        plugin(**fields)
    assert str(caught.value) == message
