"""When a client that is asked to go may go."""

from __future__ import annotations

import random

STEADY_SECONDS = 5.0
"""A connection that did not last as long is no better than none: there is a pause before the next but one."""
AGAIN_SECONDS = 5.0
"""Until the next attempt, after one that did not work."""
FIRST_PAUSE_SECONDS = 0.3
LAST_PAUSE_SECONDS = 3.0
"""Less than `STEADY_SECONDS`: a session that lasts only because we pause is none that lasted."""


class Moves:
    """The pace of moves. Who is asked to go moves at once, but whom the next server asks as soon as it has come
    stays there for a while, longer each time: a server may accept everybody and keep nobody. Times are a clock's,
    in seconds.
    """

    def __init__(self) -> None:
        self._due = 0.0
        self._moved = float("-inf")
        self._in_a_row = 0

    def wait(self, now: float) -> float:
        """Seconds until the next attempt may be made; not positive: now."""
        return self._due - now

    def attempt(self, now: float) -> None:
        """One is being made."""
        self._due = now + AGAIN_SECONDS
        if now - self._moved >= STEADY_SECONDS:
            self._in_a_row = 0

    def worked(self, now: float) -> None:
        """The attempt did."""
        # jitter over half the interval: a fleet that was asked to go must not stay together
        pause = min(FIRST_PAUSE_SECONDS * 2**self._in_a_row, LAST_PAUSE_SECONDS) * random.uniform(0.5, 1)
        self._due, self._moved = now + pause, now
        self._in_a_row = min(self._in_a_row + 1, 10)
