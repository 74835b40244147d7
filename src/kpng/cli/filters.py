"""Options that say which objects count, and what of their labels is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from kpng.kube.convert import DEFAULT_NODE_LABELS, Filters

F = TypeVar("F", bound=Callable[..., Any])


def _globs(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Options that may be repeated and also take several values separated by commas, as in Go kpng."""
    return tuple(glob for value in values for glob in value.split(",") if glob)


def _glob_option(name: str, of_what: str, default: tuple[str, ...] = ()) -> Callable[[F], F]:
    return click.option(
        name,
        multiple=True,
        callback=_globs,
        metavar="GLOB",
        default=default,
        show_default=bool(default),
        help=f"{of_what} to keep; may be repeated.",
    )


def filter_options(command: F) -> F:
    """Which Services count, and what is kept of labels and annotations."""
    for option in (
        _glob_option("--with-node-annotations", "Node annotations"),
        _glob_option("--with-node-labels", "Node labels", DEFAULT_NODE_LABELS),
        _glob_option("--with-service-annotations", "Service annotations"),
        _glob_option("--with-service-labels", "Service labels"),
        click.option(
            "--service-proxy-name",
            default="",
            metavar="NAME",
            help="Only Services labelled service.kubernetes.io/service-proxy-name=NAME. [default: only those "
            "without that label]",
        ),
        click.option(
            "--external-ips/--no-external-ips",
            default=True,
            show_default=True,
            help="Whether spec.externalIPs of Services count.",
        ),
    ):
        command = option(command)
    return command


def filters_from(options: Mapping[str, Any]) -> Filters:
    return Filters(
        service_proxy_name=options["service_proxy_name"],
        external_ips=options["external_ips"],
        service_labels=options["with_service_labels"],
        service_annotations=options["with_service_annotations"],
        node_labels=options["with_node_labels"],
        node_annotations=options["with_node_annotations"],
    )
