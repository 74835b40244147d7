"""Options that several commands share: names of nodes, globs, which API to watch, and what their help says."""

from __future__ import annotations

import logging
import shlex
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from kpng.cli.filters import filter_options, filters_from
from kpng.cli.options import DEFAULT_API, api_connection, api_options, nearest_node_name, node_name_option
from kpng.cli.root import root
from kpng.kube.convert import DEFAULT_NODE_LABELS, Filters
from kpng.lab.certificates import CertificateAuthority
from kpng.model import UserError


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """The root command sets up logging."""
    logger = logging.getLogger()
    level, handlers = logger.level, logger.handlers[:]
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


def filters_of(words: str) -> Filters:
    seen: list[Filters] = []

    @click.command()
    @filter_options
    def command(**options: Any) -> None:
        seen.append(filters_from(options))

    done = CliRunner().invoke(command, words.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return seen[0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", Filters()),
        ("--service-proxy-name mine", Filters(service_proxy_name="mine")),
        ("--with-service-labels a", Filters(service_labels=("a",))),
        ("--with-service-labels a,b", Filters(service_labels=("a", "b"))),
        ("--with-service-labels a --with-service-labels b,c", Filters(service_labels=("a", "b", "c"))),
        ("--with-service-labels ,a,,", Filters(service_labels=("a",))),
        ("--with-service-annotations example.com/*", Filters(service_annotations=("example.com/*",))),
        ("--with-node-labels zone", Filters(node_labels=("zone",))),
        ("--with-node-labels ,", Filters(node_labels=())),
        ("--with-node-annotations *", Filters(node_annotations=("*",))),
    ],
)
def test_globs_are_repeated_or_joined_by_commas(words: str, expected: Filters) -> None:
    assert filters_of(words) == expected


def test_labels_of_nodes_that_topology_needs_are_kept_by_default() -> None:
    assert filters_of("").node_labels == DEFAULT_NODE_LABELS


def name_of(outer: str, inner: str | None) -> str:
    seen: list[str] = []

    @click.group()
    @node_name_option
    def group(node_name: str | None) -> None: ...

    @group.command()
    @click.pass_context
    def go(ctx: click.Context) -> None:
        seen.append(nearest_node_name(ctx, inner))

    CliRunner().invoke(group, [*shlex.split(outer), "go"], catch_exceptions=False)
    return seen[0]


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ("--node-name a", None, "a"),
        ("--node-name a", "b", "b"),
        ("", "b", "b"),
        ("--node-name Node-A.Example", None, "node-a.example"),
        ("", " Node-B ", "node-b"),
        ("", None, socket.gethostname().lower()),
    ],
)
def test_the_nearest_node_name_counts_in_lower_case(outer: str, inner: str | None, expected: str) -> None:
    assert name_of(outer, inner) == expected


@pytest.mark.parametrize(("outer", "inner"), [("--node-name ''", None), ("", ""), ("", " "), ("--node-name a", "")])
def test_a_node_name_that_is_empty_is_refused(outer: str, inner: str | None) -> None:
    with pytest.raises(UserError, match="--node-name is empty"):
        name_of(outer, inner)


def connection_of(*words: str) -> tuple[str, ssl.SSLContext | None]:
    seen: list[tuple[str, ssl.SSLContext | None]] = []

    @click.command()
    @api_options
    def command(**options: Any) -> None:
        seen.append(api_connection(options))

    CliRunner().invoke(command, list(words), catch_exceptions=False)
    return seen[0]


def test_without_options_it_is_this_machine_without_tls() -> None:
    assert connection_of() == (DEFAULT_API, None)


def test_one_of_the_files_is_enough_for_tls(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    address, tls = connection_of("--api", "brain:1", "--api-client-tls-ca", authority.certificate)
    assert address == "brain:1"
    assert tls is not None
    assert tls.verify_mode is ssl.CERT_REQUIRED
    assert tls.check_hostname


@pytest.mark.parametrize("half", ["key", "crt"])
def test_half_a_pair_is_a_mistake(half: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be given together"):
        connection_of(f"--api-client-tls-{half}", str(tmp_path / "x"))


OPTIONS = {
    "kube to-api": "--listen --local-api --globalv1-api --own-node-only --listen-tls-key --listen-tls-crt "
    "--listen-tls-ca",
    "kube to-file": "--output",
    "kube": "--kubeconfig --server --service-proxy-name --with-service-labels --with-service-annotations "
    "--with-node-labels --with-node-annotations",
    "file": "--input --service-proxy-name --with-service-labels",
    "api": "--api --api-client-tls-key --api-client-tls-crt --api-client-tls-ca",
    "local": "--api --api-client-tls-key --api-client-tls-crt --api-client-tls-ca --node-name",
    "local to-nft": "--node-name --once --dry-run",
    "kube to-local": "--node-name",
    "": "--log-level --log-format",
}


@pytest.mark.parametrize("command", OPTIONS)
def test_help_tells_every_option_of_the_go_kpng_that_is_here(command: str) -> None:
    told = CliRunner().invoke(root, [*command.split(), "--help"], prog_name="kpng")
    assert told.exit_code == 0
    for option in OPTIONS[command].split():
        assert option in told.output
