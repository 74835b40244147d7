"""``to-file``: the state, as a file."""

from __future__ import annotations

import click

from kpng.sinks import write_state_file
from kpng.store import Store

from .sink import Sink


@click.command("to-file")
@click.option(
    "--output",
    "-o",
    default="global-state.yaml",
    show_default=True,
    type=click.Path(dir_okay=False, allow_dash=True),
    help="The file to write, each time whole and atomically; '-' for standard output.",
)
@click.option("--once", is_flag=True, help="End after the first state has been written.")
def to_file(output: str, once: bool) -> Sink:
    """Write the whole global state to a file at every change; `kpng file -i` reads it.

    \b
    kpng kube to-file -o global-state.yaml
    kpng api --api brain:12090 to-file -o - --once
    """

    async def write(store: Store) -> None:
        await write_state_file(store, output, once=once)

    return Sink(write, once)
