"""``kpng file``: files as the source."""

from __future__ import annotations

from typing import Any

import click

from kpng.sources.file import FileSource

from .filters import filter_options, filters_from
from .options import cidrs
from .pipeline import PipelineGroup, use_source


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
@click.option(
    "--service-cidrs",
    callback=cidrs,
    metavar="CIDR[,CIDR]",
    help="Where cluster IPs come from, beside any ServiceCIDR in the files: other addresses in there are dropped.",
)
@filter_options
def file(path: str, service_cidrs: tuple[str, ...], **options: Any) -> None:
    """Take Services, EndpointSlices and Nodes from files, and follow their changes.

    \b
    kpng file -i examples/manifests to-api
    kpng file -i state.yaml to-local to-nft
    kubectl get svc,endpointslices,nodes -A -o yaml | kpng file -i - to-local to-print --once
    """
    problems = click.get_current_context().obj
    filters = filters_from(options)
    use_source(lambda wanted: FileSource(path, problems, filters, once=wanted.once, service_cidrs=service_cidrs))
