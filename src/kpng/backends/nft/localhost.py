"""Node ports at loopback addresses (KEP-6032), for what runs on the node itself and knows them as localhost:PORT.

The kernel does not route 127.0.0.0/8 out of the machine unless it is opened to everybody on the network
(route_localnet, CVE-2020-8558), and never ::1. So this is a process that listens, for TCP: it passes each
connection on to the same port at an address of the node, where the rules take it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import struct
from collections.abc import Callable, Iterator, Mapping

from kpng.model import FAMILIES, Family, LocalService, Protocol, ServiceKey

from .frontends import is_proxied

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
_CONNECT_SECONDS = 10.0
_CHUNK = 1 << 16
_LOOPBACK = {Family.IPV4: "127.0.0.1", Family.IPV6: "::1"}

Place = tuple[Family, int]


class LocalhostNodePorts:
    """Listens where services have node ports. ``target`` gives the address to pass a family's connections on to."""

    def __init__(self, target: Callable[[Family], str | None]) -> None:
        self._target = target
        self._places: dict[ServiceKey, frozenset[Place]] = {}
        self._open: dict[Place, asyncio.Server] = {}
        self._faults: dict[Place, str] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def apply(self, services: Mapping[ServiceKey, LocalService | None], *, full: bool) -> None:
        """Take over what has been programmed. Only if that moves a node port is there more to do."""
        gone = dict.fromkeys(self._places) if full else {}
        for key, local in {**gone, **services}.items():
            places = frozenset(_places(local)) if local else frozenset()
            if places == self._places.get(key, frozenset()):
                continue
            self._places[key] = places
            if not places:
                del self._places[key]
            self._changed.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                self._changed.clear()
                await self._reconcile()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_SECONDS if self._faults else None):
                        await self._changed.wait()
        finally:
            for server in self._open.values():
                server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _reconcile(self) -> None:
        wanted = set().union(*self._places.values())
        for place in self._open.keys() - wanted:
            self._open.pop(place).close()  # connections that are there go on
        for place in self._faults.keys() - wanted:
            del self._faults[place]
        for place in sorted(wanted - self._open.keys()):
            await self._listen(place)

    async def _listen(self, place: Place) -> None:
        family, port = place
        try:
            self._open[place] = await asyncio.start_server(
                lambda reader, writer: self._accept(place, reader, writer), _LOOPBACK[family], port
            )
        except OSError as error:
            fault = f"cannot listen on node port {port} of {_LOOPBACK[family]}: {error.strerror}"
            if self._faults.get(place) != fault:
                log.warning("%s; trying again every %.0f s", fault, RETRY_SECONDS)
            self._faults[place] = fault
        else:
            self._faults.pop(place, None)

    def _accept(self, place: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= most_connections():
            log.debug("node port %d of %s: too many connections", place[1], _LOOPBACK[place[0]])
            _reset(writer)
            return
        task = asyncio.ensure_future(self._pass_on(place, reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    def _address(self, family: Family) -> str:
        address = self._target(family)
        if address is None:
            raise OSError(errno.EADDRNOTAVAIL, "this node has no address at which node ports are offered")
        return address

    async def _pass_on(self, place: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        family, port = place
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                there, back = await asyncio.open_connection(self._address(family), port)
        except (OSError, TimeoutError) as error:
            log.debug("node port %d of %s: %s", port, _LOOPBACK[family], error)
            _reset(writer)
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, back))
                group.create_task(_pump(there, writer))
        except* OSError:
            for end in (writer, back):
                _reset(end)
        finally:
            for end in (writer, back):
                end.close()


def most_connections() -> int:
    """Each takes two descriptors; half of them all are left to the rest of this process, whoever connects here."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4


def _reset(writer: asyncio.StreamWriter) -> None:
    """As near to a refused connection as one can get that has been accepted (socket(7), SO_LINGER)."""
    if writer.is_closing():
        return
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """One direction, to its end; the other may go on (half-closed connections). Raises `OSError` where that is not
    how it ended."""
    while chunk := await source.read(_CHUNK):
        _check(sink)
        sink.write(chunk)
        await sink.drain()
    _check(sink)
    sink.write_eof()


def _check(sink: asyncio.StreamWriter) -> None:
    """What has been lost must not be written to: uvloop's answer to that is no `OSError`."""
    if sink.is_closing():
        raise ConnectionResetError(errno.ECONNRESET, "the other end went away")


def _places(local: LocalService) -> Iterator[Place]:
    service = local.service
    if not is_proxied(service):
        return
    for mapping in service.ports:
        if mapping.node_port and mapping.protocol is Protocol.TCP:
            yield from ((f, mapping.node_port) for f in FAMILIES if service.cluster_ips.family(f))
