"""Whether the proxy keeps up (semantics M3 to M6). Sans-IO: somebody tells it what happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from kpng.model import FAMILIES, Family, LocalNode

Clock = Callable[[], float]

DEFAULT_TIMEOUT = 60.0
"""Twice kube-proxy's default syncPeriod."""


class FamilyHealth(Struct, frozen=True):
    """``last_updated`` is in seconds since 1970."""

    last_updated: float
    healthy: bool


class Report(Struct, frozen=True):
    """How things are at one moment, ``now``. ``node_eligible``: load balancers may send to this node (KEP-3836)."""

    now: float
    node_eligible: bool
    families: Mapping[Family, FamilyHealth]

    @property
    def healthy(self) -> bool:
        return all(family.healthy for family in self.families.values())

    @property
    def last_updated(self) -> float:
        """Where all is well, now; else the newest success. Load balancers in the field rely on it (M5)."""
        return self.now if self.healthy else max(family.last_updated for family in self.families.values())


class HealthState:
    """What is queued and what is done, by family.

    Unhealthy is a family with a change that has waited for ``timeout`` seconds or longer. Where nothing waits, it
    is healthy however long ago the last change was. The beginning counts as a success (M6).
    """

    def __init__(
        self, timeout: float = DEFAULT_TIMEOUT, *, wall: Clock = time.time, steady: Clock = time.monotonic
    ) -> None:
        self._timeout = timeout
        self._wall = wall
        self._steady = steady
        self._updated = dict.fromkeys(FAMILIES, wall())
        self._waiting: dict[Family, float] = {}
        self._eligible = False

    def queued(self, families: Iterable[Family] = FAMILIES) -> None:
        """There is something to do. The oldest such moment counts."""
        now = self._steady()
        for family in families:
            self._waiting.setdefault(family, now)

    def synced(self, families: Iterable[Family] = FAMILIES) -> None:
        """All that was queued has been done."""
        for family in families:
            self._updated[family] = self._wall()
            self._waiting.pop(family, None)

    def node(self, node: LocalNode) -> None:
        """What is known of this Node. One that is gone (no addresses, not eligible) changes nothing (K6)."""
        if node.eligible or node.addresses:
            self._eligible = node.eligible

    @property
    def healthy(self) -> bool:
        now = self._steady()
        return all(now - since < self._timeout for since in self._waiting.values())

    def report(self) -> Report:
        now = self._steady()
        families = {
            family: FamilyHealth(updated, now - self._waiting.get(family, now) < self._timeout)
            for family, updated in self._updated.items()
        }
        return Report(self._wall(), self._eligible, families)
