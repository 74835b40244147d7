"""``kpng lab``: a cluster in network namespaces on this machine."""

from __future__ import annotations

import click

from .running import run_to_end


def _name_given_before() -> str:
    """That of ``kpng lab --name second down``; else the default."""
    outer = click.get_current_context().parent
    name: str = (outer.params if outer else {}).get("name", "lab")
    return name


_NAME = click.option(
    "--name",
    default=_name_given_before,
    metavar="NAME",
    help="The lab's name; several can run side by side. [default: lab]",
)


@click.group(invoke_without_command=True)
@click.option("--keep", is_flag=True, help="Leave the lab running afterwards, and print how to use it.")
@click.option(
    "--nodes", type=click.IntRange(2, 3), default=3, show_default=True, help="How many nodes the cluster has."
)
@click.option(
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How to print the report on standard output. Progress goes to standard error.",
)
@_NAME
@click.pass_context
def lab(context: click.Context, keep: bool, nodes: int, output: str, name: str) -> None:
    """See kpng carry real traffic, in a small cluster of network namespaces.

    Builds nodes, pods and a client outside, starts an embedded API server, a brain (kpng kube to-api) and an
    agent on each node (kpng local to-nft), sends traffic, and shows where each request went. Needs root; changes
    nothing on this machine outside of namespaces named kpng-lab-... . Exit code 1 if anything was not as it
    should be.

    \b
    kpng lab                     run it all, print the table, remove the lab
    kpng lab --output json       the same, for programs
    kpng lab --keep              leave it running, to try kubectl and kpng in it
    kpng lab down                remove it
    """
    if context.invoked_subcommand is None:
        from kpng.lab.run import LabOptions, run_lab  # noqa: PLC0415 - a node agent needs none of it

        run_to_end(run_lab(LabOptions(name=name, nodes=nodes, keep=keep, output=output)))


@lab.command()
@_NAME
def down(name: str) -> None:
    """Remove a lab: kept, killed or just running.

    Everything that runs inside its namespaces is ended, a shell of yours too.

    \b
    kpng lab down
    kpng lab down --name second
    """
    from kpng.lab.cleanup import down as remove  # noqa: PLC0415

    click.echo(remove(name))


@lab.command()
@_NAME
def status(name: str) -> None:
    """Show what there is of a lab.

    \b
    kpng lab status
    """
    from kpng.lab.instructions import status as describe  # noqa: PLC0415

    click.echo(describe(name))
