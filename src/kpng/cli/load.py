"""``kpng load``: Services and EndpointSlices in any number, and what happens to them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import click

from kpng.kube.access import AccessOptions
from kpng.load import KINDS, Churn, Shape
from kpng.load.files import FileWriter
from kpng.load.progress import Tally, told
from kpng.load.run import Loader, LoadOptions, cleanup, with_existing_nodes
from kpng.load.writer import WriteError, connect
from kpng.model import UserError

from .options import api_server_options
from .running import EXIT_FAILED, run_to_end

_PREFIX = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_COUNT = click.IntRange(min=1)
_FILE_NODES = 10


def _kinds(_ctx: click.Context, _option: click.Parameter, value: str) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(filter(None, value.split(","))))
    if not kinds or (unknown := set(kinds) - set(KINDS)):
        named = ", ".join(sorted(unknown)) if kinds else "nothing"
        raise UserError(f"--churn: {named} is not one of {', '.join(KINDS)}")
    return kinds


def _prefix(_ctx: click.Context, _option: click.Parameter, value: str) -> str:
    if not _PREFIX.fullmatch(value):
        raise UserError(f"--prefix {value!r}: expected a short name of a-z, 0-9 and -")
    return value


@click.command()
@api_server_options
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Write manifests for 'kpng file' instead: one file (.json, .yaml), or else a folder of them.",
)
@click.option("--services", type=_COUNT, default=100, show_default=True, help="How many Services.")
@click.option(
    "--endpoints", type=click.IntRange(min=0), default=10, show_default=True, help="Endpoints of each service."
)
@click.option("--ports", type=_COUNT, default=1, show_default=True, help="Ports of each service.")
@click.option(
    "--nodes",
    type=click.IntRange(min=0),
    default=0,
    help="Make so many Nodes, for the endpoints to be on. "
    f"[default: those that the cluster has; with --file: {_FILE_NODES}]",
)
@click.option("--zones", type=_COUNT, default=3, show_default=True, help="Zones that the made Nodes are in.")
@click.option("--namespaces", type=_COUNT, default=1, show_default=True, help="Spread over so many namespaces.")
@click.option(
    "--prefix",
    default="kpng-load",
    show_default=True,
    metavar="NAME",
    callback=_prefix,
    help="What all names begin with; also the namespace. Loads with different ones do not meet.",
)
@click.option(
    "--slice-size", type=click.IntRange(1, 1000), default=100, show_default=True, help="Endpoints in a slice."
)
@click.option("--dual-stack", is_flag=True, help="IPv4 and IPv6.")
@click.option("--hints", is_flag=True, help="Each endpoint is for its own zone (topology hints).")
@click.option(
    "--rate", type=click.FloatRange(min=0), default=0.0, metavar="N", help="Changes a second. [default: 0]"
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="For how long things change. [default: until Ctrl-C]",
)
@click.option(
    "--churn",
    "kinds",
    default=",".join(KINDS),
    show_default=True,
    callback=_kinds,
    metavar="KIND,...",
    help="What changes: a pod is replaced, a service is rolled out, scaled, or its readiness flaps.",
)
@click.option("--concurrency", type=_COUNT, default=16, show_default=True, help="Writes at the same time.")
@click.option("--seed", type=int, default=0, show_default=True, help="Other changes, in another order.")
@click.option("--cleanup", "remove", is_flag=True, help="Delete everything that was made with this --prefix.")
@click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print the summary on standard output. Progress goes to standard error.",
)
def load(**options: Any) -> None:
    """Make Services and EndpointSlices in any number, and let things happen to them.

    For measuring and soaking: kpng, another proxy, or an API server. The endpoints exist on paper only (addresses
    in 10.128.0.0/9 and fd00:10:128::/48), and the Services have no selector, so no controller touches them. All is
    labelled; what is there already is left as it is, or brought up to date.

    Exit codes: 0 done or stopped, 1 the API server refused some writes, 2 wrong usage or input.

    \b
    kpng load --services 1000                            make 1,000 services of 10 endpoints, and end
    kpng load --services 1000 --rate 20 --duration 60    and change 20 things a second, for a minute
    kpng load --rate 5 --churn rolling,flap              rolling updates and flapping readiness, until Ctrl-C
    kpng load --nodes 500 --zones 3                      make the Nodes, too (not in a cluster that has real ones)
    kpng load --cleanup                                  remove it all
    kpng load --file state/ --rate 1                     the same as files: kpng file -i state/ to-local to-print
    """
    run_to_end(_load(options))


async def _load(options: dict[str, Any]) -> int:
    tally = Tally()
    completed = False
    try:
        async with told(tally):
            await _work(options, tally)
        completed = True
    except WriteError as error:
        raise UserError(f"the API server refuses: {error}") from error
    finally:
        if completed or tally.objects:
            _summarize(tally, options)
    return EXIT_FAILED if tally.errors else 0


async def _work(options: dict[str, Any], tally: Tally) -> None:
    if options["path"]:
        await _into_files(options, tally)
        return
    async with await connect(AccessOptions(options["kubeconfig"], options["server"])) as writer:
        if options["remove"]:
            await cleanup(writer, options["prefix"], tally, options["concurrency"])
            return
        shape = _shape(options, nodes=options["nodes"] or 1, cluster_ips=False)
        if not options["nodes"]:
            shape = await with_existing_nodes(writer, shape)
        await _run(Loader(writer, _churn(shape, options), tally, _load_options(options)), options)


async def _into_files(options: dict[str, Any], tally: Tally) -> None:
    if options["remove"]:
        raise UserError(f"--cleanup with --file: remove {options['path']} yourself")
    shape = _shape(options, nodes=options["nodes"] or _FILE_NODES, cluster_ips=True)
    target = FileWriter(options["path"])
    await _run(Loader(target, _churn(shape, options), tally, _load_options(options, workers=1)), options)


async def _run(loader: Loader, options: dict[str, Any]) -> None:
    await loader.make(with_namespaces=not options["path"])
    if options["rate"]:
        await loader.change()


def _shape(options: dict[str, Any], *, nodes: int, cluster_ips: bool) -> Shape:
    same = ("services", "endpoints", "ports", "zones", "namespaces", "prefix", "slice_size", "dual_stack", "hints")
    return Shape(nodes=nodes, cluster_ips=cluster_ips, **{name: options[name] for name in same})


def _churn(shape: Shape, options: dict[str, Any]) -> Churn:
    return Churn(shape, options["kinds"], options["seed"])


def _load_options(options: dict[str, Any], workers: int | None = None) -> LoadOptions:
    seconds = options["duration"]
    if seconds is not None and not math.isfinite(seconds):
        raise UserError(f"--duration {seconds}: not a number of seconds")
    return LoadOptions(rate=options["rate"], seconds=seconds, workers=workers or options["concurrency"])


def _summarize(tally: Tally, options: dict[str, Any]) -> None:
    summary = tally.summary()
    if options["output"] == "json":
        click.echo(json.dumps(summary._asdict()))
    elif options["remove"]:
        click.echo(f"removed {summary.objects:,} objects in {summary.seconds:,.1f} s")
    else:
        click.echo(summary.text())
    if not options["remove"] and not options["path"]:
        click.echo(f"to remove it all: kpng load --cleanup{_same_place(options)}", err=True)


def _same_place(options: dict[str, Any]) -> str:
    """The flags that make another command mean the same server and the same objects."""
    flags = {"kubeconfig": "", "server": "", "prefix": "kpng-load"}
    return "".join(f" --{name} {options[name]}" for name, usual in flags.items() if options[name] != usual)
