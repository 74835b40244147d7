"""``to-local``: a backend in this process."""

from __future__ import annotations

import click

from kpng.localize import change_sets
from kpng.store import Store

from .backends import BackendGroup, BackendRun
from .options import node_name_option
from .sink import Sink


class LocalSinkGroup(BackendGroup):
    """``to-local``: turns a backend's command into a sink."""

    def invoke(self, ctx: click.Context) -> Sink:
        run: BackendRun = super().invoke(ctx)

        async def feed(store: Store) -> None:
            await run(lambda node: change_sets(store, node))

        return Sink(feed, run.once, run.node)


@click.group("to-local", cls=LocalSinkGroup)
@node_name_option
def to_local(node_name: str | None) -> None:
    """Drive a backend in this process, with what this node must do.

    \b
    kpng kube to-local to-nft
    kpng file -i state.yaml to-local to-print --output yaml
    """
