"""``kpng conformance``: does a backend do what kube-proxy does?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from .running import run_to_end

F = TypeVar("F", bound=Callable[..., Any])


def _report_options(command: F) -> F:
    for option in (
        click.option("--verbose", "-v", is_flag=True, help="Show every flow, not only those that failed."),
        click.option("--json", is_flag=True, help="Print the report as JSON."),
        click.option(
            "--data",
            type=click.Path(),
            metavar="FILE",
            help="Replay this file instead of the one in the package; its form is the same.",
        ),
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@click.option("--backend", metavar="NAME", help="The backend to test; 'kpng local --help' lists them as to-NAME.")
@click.option("--only", default="", metavar="SUBSTRING", help="Only scenarios with this in their name.")
@_report_options
@click.pass_context
def conformance(context: click.Context, /, backend: str | None, only: str, **options: Any) -> None:
    """Replay recorded packet flows against a backend, and tell which end as with kube-proxy.

    Each scenario is a cluster (Services, EndpointSlices, a Node) and connections that are attempted, with what
    kube-proxy 1.36 makes of them. The cluster is read from a file and goes through the store and endpoint choice to
    the backend, as in production; the packets are real, in a private network namespace. Needs root; changes
    nothing outside of a namespace named kpng-conformance-PID.

    Exit codes: 0 everything as expected, 1 some flow was not, 2 wrong usage or input.

    \b
    kpng conformance --backend nft                      everything; a table of what failed, and a total
    kpng conformance --backend nft --only hairpin -v    some scenarios, every flow
    kpng conformance --backend nft --json               the same, for programs
    kpng conformance --backend nft --data mine.json     scenarios of your own
    kpng conformance topology                           endpoint choice alone, without packets or root
    """
    if context.invoked_subcommand is None:
        from kpng.conformance.run import ConformanceOptions, run_packet_flows  # noqa: PLC0415 - needed only now

        run_to_end(run_packet_flows(backend, ConformanceOptions(only=only, **options)))


@conformance.command()
@_report_options
@click.pass_context
def topology(context: click.Context, /, **options: Any) -> None:
    """Hold endpoint choice against recorded cases: which endpoints may this node use?

    \b
    kpng conformance topology
    kpng conformance topology --json
    kpng conformance topology --data cases.json -v
    """
    from kpng.conformance.run import ConformanceOptions, run_topology  # noqa: PLC0415

    context.exit(run_topology(ConformanceOptions(**options)))
