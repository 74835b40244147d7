"""HTTP servers on given addresses, which come up as soon as they can."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from kpng.model import UserError

log = logging.getLogger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

RETRY_SECONDS = 5.0
_BACKLOG = 128
_GOODBYE_SECONDS = 0.2
_IDLE_SECONDS = 60.0


def answer(body: str, *, status: int = 200, kind: str = "application/json", **headers: str) -> web.Response:
    """A response without room for interpretation: the type is what is said, and nothing may be kept."""
    response = web.Response(body=body.encode(), status=status, content_type=kind.partition(";")[0])
    response.headers["Content-Type"] = kind
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = "kpng"
    response.headers.update(headers)
    return response


def not_found() -> web.Response:
    return answer("404 page not found\n", status=404, kind="text/plain; charset=utf-8")


class Server:
    """One handler behind one port of several addresses: of all of them, or of none."""

    def __init__(self, handler: Handler) -> None:
        server = web.Server(handler, access_log=None, keepalive_timeout=_IDLE_SECONDS)
        self._runner = web.ServerRunner(server, shutdown_timeout=_GOODBYE_SECONDS)

    async def open(self, sockets: Sequence[socket.socket]) -> None:
        await self._runner.setup()
        for each in sockets:
            await web.SockSite(self._runner, each).start()

    async def close(self) -> None:
        """Stop listening, and end connections."""
        await self._runner.cleanup()


def bind_all(addresses: Sequence[str], port: int, *, dual: bool = False) -> list[socket.socket]:
    """Listening sockets, one for each address. Raises OSError; then none is left open.

    ``dual``: an unspecified address stands for both families, as Go's net.Listen takes it.
    """
    sockets: list[socket.socket] = []
    try:
        for address in addresses:
            both = dual and address in ("0.0.0.0", "::") and socket.has_dualstack_ipv6()
            sockets.append(_bind("::" if both else address, port, both=both))
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets


def _bind(address: str, port: int, *, both: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        made.bind((address, port))
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made


async def serve(what: str, handler: Handler, address: str, port: int, *, hard_fail: bool = False) -> None:
    """Serve until cancelled. Where the address cannot be had, try again every few seconds and say so once; with
    ``hard_fail`` raise `kpng.UserError` instead. Port 0: serve nothing, and wait."""
    server = Server(handler)
    sockets = await _bind_at_last(what, address, port, hard_fail=hard_fail) if port else []
    try:
        await server.open(sockets)
        if sockets:
            log.info("%s is served on %s", what, shown(address, port))
        await asyncio.Event().wait()
    finally:
        await server.close()


async def _bind_at_last(what: str, address: str, port: int, *, hard_fail: bool) -> list[socket.socket]:
    said = ""
    while True:
        try:
            return bind_all([address], port, dual=True)
        except OSError as error:
            fault = f"{what}: cannot listen on {shown(address, port)}: {error.strerror}"
            if hard_fail:
                raise UserError(fault) from None
            if fault != said:
                log.error("%s; trying again every %.0f s", fault, RETRY_SECONDS)
            said = fault
        await asyncio.sleep(RETRY_SECONDS)


def shown(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
