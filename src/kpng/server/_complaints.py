"""What is wrong with clients, told once in a while: a fleet with a wrong certificate tries every few seconds."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger(__name__)

QUIET_SECONDS = 600.0
MOST = 1000
"""Lines within `QUIET_SECONDS`, whoever tries."""


class Complaints:
    """Logs a reason once per client host and `QUIET_SECONDS`, and what is left out at level debug."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()
        self._until = 0.0

    def add(self, peer: str, reason: str) -> None:
        now = time.monotonic()
        if now >= self._until:
            self._told.clear()
            self._until = now + QUIET_SECONDS
        subject = (peer.rpartition(":")[0], reason)
        fresh = subject not in self._told and len(self._told) < MOST
        if fresh:
            self._told.add(subject)
        logger.log(logging.WARNING if fresh else logging.DEBUG, "%s: %s", peer, reason)
