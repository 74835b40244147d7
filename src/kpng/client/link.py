"""How the link to the servers does: tells its ups and downs once each, and paces the attempts."""

from __future__ import annotations

import asyncio
import logging
import random

from .servers import Server
from .session import SilentError

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 5.0

_SILENT = "%s has nothing to tell yet, asking another: %s"
_LINES = {
    (True, True): "%s ended the watch: %s",
    (True, False): "connection to %s lost: %s",
    (False, True): "%s refused the watch, will ask again: %s",
    (False, False): "cannot connect to %s, will keep trying: %s",
}
"""By whether the watch had worked, and whether it is the peer that says so."""


class Link:
    """What people are told of the servers, and how long to wait."""

    def __init__(self) -> None:
        self._up = False
        self._told: set[tuple[str, str]] = set()
        self._attempts = 0

    def connected(self, server: Server) -> None:
        if not self._up:
            log.info("connected to %s", server.name, extra={"event": "connected"})
        self._up = True
        self._told.clear()

    def worked(self) -> None:
        """For a while, so that this loss is a first one."""
        self._attempts = 0

    def moved(self, old: Server, new: Server) -> None:
        log.info("moved from %s to %s", old.name, new.name, extra={"event": "connected"})

    def lost(self, name: str, error: Exception, address: str, *, others: bool) -> None:
        """Tell what became of the watch, once for each way in which it fails until it works again.

        Where there are ``others`` left, it is no matter that one of them cannot be reached. ``address``: as errors
        begin with it.
        """
        answered = not isinstance(error, OSError)  # the peer is there, and said no
        line = _SILENT if isinstance(error, SilentError) else _LINES[self._up, answered]
        quiet = (line, name) in self._told or (others and line == _LINES[False, False])
        if not quiet:
            self._told.add((line, name))
        reason = (str(error) or type(error).__name__).removeprefix(f"{address}: ")
        event = {"event": "disconnected"} if self._up else None
        log.log(logging.DEBUG if quiet else logging.WARNING, line, name, reason, extra=event)
        self._up = False

    async def pause(self) -> None:
        """Until the next attempt is due."""
        # jitter over the whole interval: a fleet that lost its brain must not come back as one
        delay = min(FIRST_RETRY_SECONDS * 2**self._attempts, LAST_RETRY_SECONDS)
        self._attempts = min(self._attempts + 1, 10)
        await asyncio.sleep(delay * random.uniform(0.5, 1))
