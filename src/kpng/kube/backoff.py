"""How long to wait after a failure: longer each time, never in step with others."""

from __future__ import annotations

import random

_FIRST_SECONDS = 0.1
_MAX_SECONDS = 30.0


class Backoff:
    """Doubling waits from 0.1 to 30 seconds, each spread over +-50 %."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()
        self._failures = 0

    def next(self, at_least: float = 0.0) -> float:
        """Seconds to wait after one more failure; never fewer than ``at_least``, the server's Retry-After."""
        seconds = min(_FIRST_SECONDS * float(1 << min(self._failures, 16)), _MAX_SECONDS)
        self._failures += 1
        return max(seconds * self._chance.uniform(0.5, 1.5), at_least * self._chance.uniform(1.0, 1.5))

    def reset(self) -> None:
        """Something worked."""
        self._failures = 0
