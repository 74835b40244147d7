"""kubeconfig files: what counts of them, and what their readers are told."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpng.kube.kubeconfig import load_kubeconfig
from kpng.model import UserError

CLUSTER = {"server": "https://a:6443"}


def config_of(cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "clusters": [{"name": "c", "cluster": CLUSTER if cluster is None else cluster}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "ignored"}}],
        "current-context": "x",
    }


def write(path: Path, config: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    return str(path)


def test_all_that_counts(tmp_path: Path) -> None:
    cluster = {
        "server": "https://a:6443",
        "certificate-authority-data": "QQ==",
        "insecure-skip-tls-verify": True,
        "tls-server-name": "inside",
        "proxy-url": "http://proxy:3128",
        "disable-compression": True,
    }
    user = {"client-certificate-data": "Qg==", "client-key-data": "Qw==", "token": "t", "as": "ignored"}
    found = load_kubeconfig(write(tmp_path / "c", config_of(cluster, user)))
    assert (found.cluster.server, found.cluster.tls_server_name) == ("https://a:6443", "inside")
    assert (found.cluster.certificate_authority_data, found.cluster.insecure_skip_tls_verify) == ("QQ==", True)
    assert found.cluster.proxy_url == "http://proxy:3128"
    assert (found.user.client_certificate_data, found.user.client_key_data) == ("Qg==", "Qw==")
    assert found.user.token == "t"


def test_paths_are_relative_to_their_file(tmp_path: Path) -> None:
    user = {
        "client-certificate": "crt.pem",
        "client-key": "/etc/key.pem",
        "tokenFile": "../token",
        "exec": {"apiVersion": "v1", "command": "bin/login"},
    }
    folder = tmp_path / "deep"
    found = load_kubeconfig(write(folder / "c", config_of(CLUSTER | {"certificate-authority": "ca.pem"}, user)))
    assert found.cluster.certificate_authority == f"{folder}/ca.pem"
    assert found.user.client_certificate == f"{folder}/crt.pem"
    assert found.user.client_key == "/etc/key.pem"
    assert found.user.token_file == f"{folder}/../token"
    assert found.user.exec is not None
    assert found.user.exec.command == f"{folder}/bin/login"


def test_a_plugin_without_a_slash_is_found_by_the_path(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": "v1", "command": "login"}}
    found = load_kubeconfig(write(tmp_path / "c", config_of(user=user)))
    assert found.user.exec is not None
    assert found.user.exec.command == "login"


def test_the_first_of_several_files_counts(tmp_path: Path) -> None:
    """Each name, and the current context, is that of the first file that has it (kubectl, "Merging")."""
    first = config_of({"server": "https://first"}) | {"current-context": "y", "users": []}
    second = config_of({"server": "https://second"}, {"token": "second"})
    second["contexts"].append({"name": "y", "context": {"cluster": "c", "user": "u"}})
    paths = f"{write(tmp_path / 'a', first)}:{tmp_path}/missing:{write(tmp_path / 'b', second)}"
    found = load_kubeconfig(paths)
    assert found.cluster.server == "https://first"
    assert found.user.token == "second"


def test_paths_of_several_files_are_relative_to_their_own(tmp_path: Path) -> None:
    users = {"users": [{"name": "u", "user": {"tokenFile": "token"}}]}
    rest = config_of() | {"users": None}
    found = load_kubeconfig(f"{write(tmp_path / 'a' / 'c', rest)}:{write(tmp_path / 'b' / 'c', users)}")
    assert found.user.token_file == f"{tmp_path}/b/token"


def test_a_context_without_a_user(tmp_path: Path) -> None:
    config = config_of() | {"contexts": [{"name": "x", "context": {"cluster": "c"}}]}
    assert load_kubeconfig(write(tmp_path / "c", config)).user.token == ""


BAD: list[tuple[object, str]] = [
    ({}, "no current-context"),
    (None, "no current-context"),
    ([], "expected object, got array"),
    (config_of() | {"current-context": "z"}, "no context named 'z'"),
    (config_of() | {"clusters": []}, "no cluster named 'c'"),
    (config_of() | {"users": None}, "no user named 'u'"),
    (config_of({}), "cluster 'c' has no server"),
    (config_of({"server": 5}), "clusters[0].cluster.server: expected str, got int"),
    (config_of(user={"token": ["a"]}), "users[0].user.token: expected str, got array"),
    (config_of(user={"exec": {"command": "x"}}), "users[0].user.exec: object missing required field apiVersion"),
]


@pytest.mark.parametrize(("config", "message"), BAD, ids=[message for _, message in BAD])
def test_what_cannot_be_used(tmp_path: Path, config: object, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_kubeconfig(write(tmp_path / "c", config))
    assert str(caught.value) == message


def test_what_is_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("a: [\n")
    with pytest.raises(UserError, match=r"^not YAML: [^\n]+$"):
        load_kubeconfig(str(tmp_path / "c"))


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_kubeconfig(f"{tmp_path}/a:{tmp_path}/b")


def test_json_is_yaml(tmp_path: Path) -> None:
    data = base64.b64encode(b"x").decode()
    (tmp_path / "c").write_text(
        '{"current-context":"x","clusters":[{"name":"c","cluster":{"server":"http://s","certificate-authority-data":"'
        + data
        + '"}}],"contexts":[{"name":"x","context":{"cluster":"c"}}]}'
    )
    assert load_kubeconfig(str(tmp_path / "c")).cluster.certificate_authority_data == data
