"""``kpng kube``: the API server as the source."""

from __future__ import annotations

from typing import Any

import click
from msgspec.structs import replace

from kpng.kube.access import AccessOptions
from kpng.kube.source import KubeOptions, KubeSource

from .filters import filter_options, filters_from
from .options import api_server_options
from .pipeline import PipelineGroup, Wanted, use_source


@click.group("kube", cls=PipelineGroup)
@api_server_options
@filter_options
def kube(kubeconfig: str, server: str, **options: Any) -> None:
    """Take Services, EndpointSlices and Nodes from a Kubernetes API server, by list and watch.

    \b
    kpng kube to-api
    kpng kube --kubeconfig admin.conf to-local to-nft
    kpng kube --server http://127.0.0.1:8001 to-file -o -
    """
    access = AccessOptions(kubeconfig, server)
    problems, filters = click.get_current_context().obj, filters_from(options)

    def source(wanted: Wanted) -> KubeSource:
        return KubeSource(KubeOptions(access, replace(filters, node=wanted.node)), problems)

    use_source(source)
