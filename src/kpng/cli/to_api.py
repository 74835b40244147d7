"""``to-api``: the state, served over gRPC."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import click

from kpng.model import UserError
from kpng.proxyconfig.duration import Duration
from kpng.proxyconfig.flag_types import DURATION
from kpng.server import ApiServer
from kpng.server.service import LIMITS
from kpng.store import Store
from kpng.wire.tls import server_context

from .sink import Sink

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
