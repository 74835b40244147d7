"""Options that several commands share."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from kpng.model import InvalidObjectError, UserError, parse_cidr
from kpng.wire.tls import client_context

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_API = "127.0.0.1:12090"
_PATH = click.Path(dir_okay=False)


def api_options(command: F) -> F:
    """``--api`` and ``--api-client-tls-*``: which kpng API to watch."""
    for option in (
        click.option("--api-client-tls-ca", type=_PATH, help="CA that signed the server's certificate."),
        click.option("--api-client-tls-crt", type=_PATH, help="Our certificate, for mutual TLS."),
        click.option("--api-client-tls-key", type=_PATH, help="The key of our certificate."),
        click.option(
            "--api",
            default=DEFAULT_API,
            show_default=True,
            metavar="ADDRESS[,ADDRESS]",
            help="The kpng API to watch: HOST:PORT or unix:///PATH. Of several servers, listed or behind one name, "
            "any is used, and another one when it fails.",
        ),
    ):
        command = option(command)
    return command


def api_server_options(command: F) -> F:
    """``--kubeconfig`` and ``--server``: which Kubernetes API server."""
    for option in (
        click.option(
            "--server", default="", metavar="URL", help="The API server's URL; overrides the kubeconfig's."
        ),
        click.option(
            "--kubeconfig",
            default="",
            metavar="FILE",
            help="How to reach the API server. [default: $KUBECONFIG, then in-cluster, then ~/.kube/config]",
        ),
    ):
        command = option(command)
    return command


def cidrs(_ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    """The callback of an option that takes CIDRs, separated by commas."""
    if value is None:
        return ()
    try:
        return tuple(parse_cidr(text) for text in value.split(","))
    except InvalidObjectError as error:
        raise UserError(f"{option.opts[0]}: {error.message}") from error


def node_name_option(command: F) -> F:
    return click.option(
        "--node-name", metavar="NAME", help="Which node this is. [default: the host name, in lower case]"
    )(command)


def nearest_node_name(ctx: click.Context, given: str | None) -> str:
    """The node's name: as given to the backend, else to ``local``/``to-local``, else the host's."""
    outer = ctx.parent.params.get("node_name") if ctx.parent else None
    asked = given if given is not None else outer
    name = str(socket.gethostname() if asked is None else asked).strip().lower()
    if not name:
        raise UserError("--node-name is empty; leave it out for the host name")
    return name


def api_connection(params: Mapping[str, Any]) -> tuple[str, ssl.SSLContext | None]:
    """The address and TLS context that `api_options` describe; TLS if any of its files is given."""
    key, crt, ca = (params[f"api_client_tls_{part}"] for part in ("key", "crt", "ca"))
    return params["api"], client_context(key, crt, ca)
