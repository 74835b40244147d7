"""``kpng local``: a node agent, which needs no store."""

from __future__ import annotations

import click

from kpng.client import watch_local

from .backends import BackendGroup, BackendRun
from .options import api_connection, api_options, node_name_option
from .running import run_to_end


class LocalGroup(BackendGroup):
    """``local``: a gRPC client of ``to-api`` that drives one backend."""

    def invoke(self, ctx: click.Context) -> None:
        run: BackendRun = super().invoke(ctx)
        address, tls = api_connection(ctx.params)
        run_to_end(run(lambda node: watch_local(address, node, tls)))


@click.group("local", cls=LocalGroup)
@api_options
@node_name_option
def local(**_: str | None) -> None:
    """Drive a backend with what this node must do, taken from a kpng API. All that a node needs.

    \b
    kpng local --api brain:12090 to-nft
    kpng local --api brain-a:12090,brain-b:12090 to-nft
    kpng local --api unix:///run/kpng.sock to-print --once
    """
