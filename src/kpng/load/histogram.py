"""Durations without end, in little memory."""

from __future__ import annotations

import math
from collections import Counter

_WIDTH = math.log(1.01)
_LEAST = 1e-6


class Histogram:
    """How often which duration came, in seconds, to 1 %: buckets, each 1 % wide.

    From a microsecond to an hour there are some 2,200 of them, however many durations are counted.
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        self._counts[round(math.log(max(seconds, _LEAST)) / _WIDTH)] += 1

    def __len__(self) -> int:
        """How many durations were counted."""
        return self._counts.total()

    def quantile(self, share: float) -> float:
        """The duration that this share of them did not exceed; 0 where there are none."""
        left = share * len(self)
        for bucket, count in sorted(self._counts.items()):
            left -= count
            if left <= 0:
                return math.exp(bucket * _WIDTH)
        return 0.0
