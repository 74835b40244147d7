"""Sources as commands: ``kube``, ``file``, ``api``; and ``local``, which skips the store."""

from __future__ import annotations

import click

from kpng.client import watch_local
from kpng.sources import Source
from kpng.sources.api import ApiSource
from kpng.sources.file import FileSource

from .backends import BackendGroup, RunBackend
from .options import api_connection, api_options, node_name_option
from .pipeline import PipelineGroup
from .running import run_to_end
from .sinks import SINKS


def _use(source: Source) -> None:
    click.get_current_context().meta["kpng.source"] = source


@click.group("file", cls=PipelineGroup)
@click.option(
    "--input",
    "-i",
    "path",
    default="global-state.yaml",
    show_default=True,
    type=click.Path(allow_dash=True),
    help="A Go-kpng state file, a Kubernetes manifest, or a folder of manifests; '-' for standard input.",
)
@click.option("--service-proxy-name", default="", help="Only services with this service-proxy-name label.")
def file(path: str, service_proxy_name: str) -> None:
    """Take Services, EndpointSlices and Nodes from files, and follow their changes.

    \b
    kpng file -i examples/manifests to-api
    kpng file -i state.yaml to-local to-nft
    kubectl get svc,endpointslices,nodes -A -o yaml | kpng file -i - to-local to-print --once
    """
    problems = click.get_current_context().obj
    _use(FileSource(path, problems, service_proxy_name=service_proxy_name))


@click.group("api", cls=PipelineGroup)
@api_options
def api(**options: str | None) -> None:
    """Take the global state from another kpng: a relay, or a tree of them.

    \b
    kpng api --api brain:12090 to-api --listen tcp://:12091
    """
    _use(ApiSource(*api_connection(options)))


class LocalGroup(BackendGroup):
    """``local``: a gRPC client of ``to-api`` that drives one backend."""

    def invoke(self, ctx: click.Context) -> None:
        run: RunBackend = super().invoke(ctx)
        address, tls = api_connection(ctx.params)
        run_to_end(run(lambda node: watch_local(address, node, tls)))


@click.group("local", cls=LocalGroup)
@api_options
@node_name_option
def local(**_: str | None) -> None:
    """Drive a backend with what this node must do, taken from a kpng API. All that a node needs.

    \b
    kpng local --api brain:12090 to-nft
    kpng local --api unix:///run/kpng.sock to-print --once
    """


PIPELINES: tuple[click.Group, ...] = (file, api)
for _group in PIPELINES:
    for _sink in SINKS:
        _group.add_command(_sink)
