"""Sinks as commands: ``to-api``, ``to-file``, ``to-local``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import click

from kpng.localize import change_sets
from kpng.model import UserError
from kpng.proxyconfig.duration import Duration
from kpng.proxyconfig.flag_types import DURATION
from kpng.server import ApiServer
from kpng.server.service import LIMITS
from kpng.sinks import write_state_file
from kpng.store import Store
from kpng.wire.tls import server_context

from .backends import BackendGroup, BackendRun
from .options import node_name_option


@dataclass(frozen=True)
class Sink:
    """What a sink command returns. ``run`` takes the store on until cancelled, or with ``once`` until the first
    state has been taken. ``node``: the one Node that matters to it; "": all of them may."""

    run: Callable[[Store], Coroutine[Any, Any, None]]
    once: bool = False
    node: str = ""


_PATH = click.Path(dir_okay=False)


@click.command("to-api")
@click.option(
    "--listen",
    default="tcp://:12090",
    show_default=True,
    metavar="ADDRESS",
    help="Where to serve: tcp://HOST:PORT (HOST may be left out) or unix:///PATH.",
)
@click.option("--local-api/--no-local-api", default=True, show_default=True, help="Serve nodes' local state.")
@click.option(
    "--globalv1-api/--no-globalv1-api", default=True, show_default=True, help="Serve the global state (relays)."
)
@click.option(
    "--own-node-only",
    is_flag=True,
    help="A client may watch only the node that its certificate names (CN NODE or system:node:NODE). "
    "The global API stays open to every certificate; see --no-globalv1-api.",
)
@click.option(
    "--max-connection-age",
    type=DURATION,
    default="30m",
    show_default=True,
    help="Then a client is asked to connect anew, so that clients spread over all servers there are; give or take "
    "a tenth, 0 for never.",
)
@click.option(
    "--reuse-port",
    is_flag=True,
    help="Let other processes serve on the same port; the kernel spreads clients over them.",
)
@click.option("--listen-tls-key", type=_PATH, help="The key of the server's certificate.")
@click.option("--listen-tls-crt", type=_PATH, help="The server's certificate.")
@click.option("--listen-tls-ca", type=_PATH, help="CA that signed the certificates that clients must present.")
def to_api(
    listen: str,
    local_api: bool,
    globalv1_api: bool,
    own_node_only: bool,
    max_connection_age: Duration,
    reuse_port: bool,
    listen_tls_key: str | None,
    listen_tls_crt: str | None,
    listen_tls_ca: str | None,
) -> Sink:
    """Serve the state over gRPC: to node agents (`kpng local`) and to relays (`kpng api`).

    \b
    kpng kube to-api
    kpng kube to-api --listen unix:///run/kpng.sock
    kpng api --api brain-a:12090,brain-b:12090 to-api --listen tcp://:12091
    """
    tls = server_context(listen_tls_key, listen_tls_crt, listen_tls_ca)
    if own_node_only and tls is None:
        raise UserError("--own-node-only needs --listen-tls-key, -crt and -ca: without them nobody has a name")

    if max_connection_age < Duration():
        raise UserError(f"--max-connection-age {max_connection_age}: a connection cannot be younger than new")
    limits = replace(LIMITS, max_connection_age_seconds=max_connection_age.seconds)

    async def serve(store: Store) -> None:
        server = ApiServer(
            store, local_api=local_api, global_api=globalv1_api, own_node_only=own_node_only, limits=limits
        )
        await server.listen(listen, tls, reuse_port=reuse_port)
        try:
            await asyncio.Event().wait()
        finally:
            await server.close()

    return Sink(serve)


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


SINKS: tuple[click.Command, ...] = (to_api, to_file, to_local)
