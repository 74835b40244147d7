"""The servers of healthCheckNodePorts: opened, moved and closed as Services and addresses change (semantics L)."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

from aiohttp import web
from msgspec import Struct

from kpng.model import FAMILIES, ChangeSet, Family, IPSet, ServiceKey

from . import server
from .addresses import Addresses
from .documents import service_document
from .node_ports import HealthChecks
from .server import Server, answer, bind_all
from .state import HealthState

log = logging.getLogger(__name__)


class _Place(NamedTuple):
    """What has a server of its own."""

    service: ServiceKey
    family: Family

    def __str__(self) -> str:
        return f"health check of Service {self.service} (IPv{self.family.value})"


class _Listening(Struct, frozen=True):
    """Where a server is, or should be."""

    addresses: tuple[str, ...]
    port: int


class HealthCheckServers:
    """One server for each Service with a healthCheckNodePort and each family.

    ``addresses``, given those of the Node, tells where to listen. It is asked when ports or the Node change; say
    that the machine's have changed with `look_again`, so that the servers follow (X6). What cannot be listened on
    is tried again every `server.RETRY_SECONDS`.
    """

    def __init__(self, state: HealthState, addresses: Callable[[IPSet], Addresses]) -> None:
        self._state = state
        self._addresses = addresses
        self._node = IPSet()
        self._checks = HealthChecks()
        self._open: dict[_Place, tuple[_Listening, Server]] = {}
        self._faults: dict[_Place, str] = {}
        self._unreadable = ""
        """Why the machine's addresses are not known; "" where they are."""
        self._changed = asyncio.Event()

    def apply(self, changes: ChangeSet) -> None:
        """Take over a change set that the backend has made real (L7)."""
        if self._checks.apply(changes):
            self.look_again()
        if changes.node is not None and changes.node.addresses != self._node:
            self._node = changes.node.addresses
            self.look_again()

    def look_again(self) -> None:
        """The addresses of the machine have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                self._changed.clear()
                await self._reconcile()
                await self._next_occasion()
        finally:
            await asyncio.gather(*(self._close(place) for place in [*self._open]))

    async def _next_occasion(self) -> None:
        try:
            async with asyncio.timeout(server.RETRY_SECONDS if self._faults or self._unreadable else None):
                await self._changed.wait()
        except TimeoutError:
            log.debug("trying health checks again: %s", self._unreadable or len(self._faults))

    async def _reconcile(self) -> None:
        wanted = self._known_wanted()
        if wanted is None:
            return
        for place, (listening, _) in [*self._open.items()]:
            if wanted.get(place) != listening:
                await self._close(place)
        for place in self._faults.keys() - wanted.keys():
            del self._faults[place]
        for place, listening in wanted.items():
            if place not in self._open:
                await self._try_to_open(place, listening)

    def _known_wanted(self) -> dict[_Place, _Listening] | None:
        """None while the machine's addresses cannot be read: then everything stays as it is."""
        try:
            wanted = dict(self._wanted())
        except OSError as error:
            fault = f"cannot tell where to answer health checks: {error.strerror or error}"
            if fault != self._unreadable:
                log.error("%s; trying again every %.0f s", fault, server.RETRY_SECONDS)
            self._unreadable = fault
            return None
        self._unreadable = ""
        return wanted

    def _wanted(self) -> Iterator[tuple[_Place, _Listening]]:
        if not self._checks.wanted:  # addresses of pods come and go, and are told as well
            return
        addresses = self._addresses(self._node)
        for service, check in self._checks.wanted.items():
            for family in FAMILIES:
                if addresses[family]:
                    yield _Place(service, family), _Listening(addresses[family], check.port)

    async def _try_to_open(self, place: _Place, listening: _Listening) -> None:
        """On all addresses or on none (L8)."""
        try:
            sockets = bind_all(listening.addresses, listening.port)
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT:  # a machine without IPv6: there is nobody to ask
                return
            fault = f"cannot listen on port {listening.port}: {error.strerror}"
            if self._faults.get(place) != fault:
                log.error("%s: %s; trying again every %.0f s", place, fault, server.RETRY_SECONDS)
            self._faults[place] = fault
            return
        opened = Server(self._handler(place))
        self._open[place] = (listening, opened)
        await opened.open(sockets)
        self._faults.pop(place, None)
        log.info("%s: open on port %d of %s", place, listening.port, ", ".join(listening.addresses))

    async def _close(self, place: _Place) -> None:
        listening, closing = self._open.pop(place)
        await closing.close()
        log.info("%s: closed on port %d", place, listening.port)

    def _handler(self, place: _Place) -> server.Handler:
        async def handle(_: web.BaseRequest) -> web.Response:
            return self._answer(place)

        return handle

    def _answer(self, place: _Place) -> web.Response:
        """Whatever is asked (L3). Whether load balancers may use the node makes no difference here (L4, X19)."""
        check = self._checks.wanted.get(place.service)
        local = check.local_endpoints[place.family] if check else 0
        healthy = self._state.healthy
        return answer(
            service_document(place.service, local, healthy=healthy),
            status=200 if local and healthy else 503,
            **{"X-Load-Balancing-Endpoint-Weight": str(local)},
        )
