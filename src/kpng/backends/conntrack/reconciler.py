"""Drives the planner: follows what a backend has applied and removes stale flows, beside the data path."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Iterable
from time import monotonic

from kpng.host.addresses import interface_addresses
from kpng.host.conntrack import Conntrack, ConntrackUnavailableError
from kpng.model import ChangeSet

from .frontends import has_udp
from .planner import Planner

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 30.0
_REST = 4
"""Rest so many times as long as the last pass took: changes that never end cost a fifth of a core at most, and are
looked at together."""
_LONGEST_REST_SECONDS = 5.0


def node_addresses() -> list[str]:
    """Where node ports are taken unless somebody says otherwise: all addresses of this node but loopback."""
    return [found.address for found in interface_addresses() if not found.is_host_only]


class ConntrackReconciler:
    """Removes UDP flows that point at what no longer serves, once at the start and after every change.

    `note` each change set that was applied, in order, and keep `run` running. ``node_port_addresses`` gives the
    addresses at which this node takes node ports; it is called in another thread, before each pass.

    ``removed`` counts flows, ``passes`` how often the kernel was asked; ``seconds`` is what the last pass took.
    """

    def __init__(self, *, node_port_addresses: Callable[[], Iterable[str]] = node_addresses) -> None:
        self._node_port_addresses = node_port_addresses
        self._planner = Planner()  # only used by one pass at a time, in its thread
        self._conntrack: Conntrack | None = None
        self._noted: list[ChangeSet] = []
        """One by one: what was real for a moment only has left its flows, too."""
        self._arrived = asyncio.Event()
        self._available = True
        self.removed = 0
        self.passes = 0
        self.seconds = 0.0

    def note(self, changes: ChangeSet) -> None:
        """The backend has applied ``changes``. Costs next to nothing."""
        if not self._available:
            return
        concerned = {k: c for k, c in changes.changes.items() if has_udp(c.old) or has_udp(c.new)}
        if concerned or changes.full:
            self._noted.append(ChangeSet(concerned, changes.full))
            self._arrived.set()

    async def run(self) -> None:
        """Until cancelled; returns where the kernel offers no connection tracking, which is told once."""
        try:
            while True:
                await self._arrived.wait()
                await self._reconcile_at_last()
                await asyncio.sleep(min(_REST * self.seconds, _LONGEST_REST_SECONDS))
        except ConntrackUnavailableError as error:
            self._available, self._noted = False, []
            log.warning("stale UDP flows are not removed: %s", error)
        finally:
            self.close()

    def close(self) -> None:
        """Release the connection. Only for whoever calls `reconcile` instead of `run`."""
        if self._conntrack is not None:
            self._conntrack.close()
            self._conntrack = None

    async def _reconcile_at_last(self) -> None:
        """Try until it succeeds. One fault is logged once, not at each attempt."""
        fault, attempt = "", 0
        while True:
            try:
                await self.reconcile()
            except ConntrackUnavailableError:
                raise
            except Exception as error:  # whatever it is, flows must not be left alone for good
                said = f"{type(error).__name__}: {error}"
                delay = min(FIRST_RETRY_SECONDS * 2 ** min(attempt, 10), LAST_RETRY_SECONDS)
                level = logging.DEBUG if said == fault else logging.WARNING
                log.log(level, "cannot remove stale UDP flows, retrying in %.1f s: %s", delay, said)
                fault, attempt = said, attempt + 1
                await asyncio.sleep(delay * random.uniform(0.8, 1.2))
            else:
                return

    async def reconcile(self) -> int:
        """One pass over everything noted so far; returns how many flows it removed.

        Raises `OSError` (then the next pass does it again) or `ConntrackUnavailableError`.
        """
        self._arrived.clear()
        noted, self._noted = self._noted, []
        worker = asyncio.ensure_future(asyncio.to_thread(self._pass, noted))
        try:
            removed = await asyncio.shield(worker)
        except asyncio.CancelledError:
            await asyncio.wait([worker])  # it uses the connection
            raise
        self.removed += removed
        return removed

    def _pass(self, noted: Iterable[ChangeSet]) -> int:
        start = monotonic()
        for changes in noted:
            self._planner.note(changes)
        plan = self._planner.plan(self._here() if self._planner.needs_node_addresses else ())
        if plan is None:
            return 0
        self.passes += 1
        if self._conntrack is None:
            self._conntrack = Conntrack()
        flows = self._conntrack.flows
        stale = [flow for query in plan.queries for flow in flows(query) if plan.is_stale(flow)]
        removed = self._conntrack.delete(stale)
        self._planner.done()
        self.seconds = monotonic() - start
        level = logging.INFO if removed else logging.DEBUG
        log.log(level, "%d stale UDP flows removed in %.0f ms", removed, self.seconds * 1e3)
        return removed

    def _here(self) -> Iterable[bytes]:
        for address in self._node_port_addresses():
            yield socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
