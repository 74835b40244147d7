"""One watcher of a node's local state: where it stands, and what it is to be told next."""

from __future__ import annotations

from typing import Any

from kpng.localize import Place, node_in, place_of
from kpng.model import LocalNode
from kpng.store import Snapshot

from .publisher import Publisher
from .rounds import Rounds
from .watchers import Patience


class Watcher:
    """Holds nothing but its place, so that changes collapse while it is busy with a round."""

    __slots__ = ("_place", "_publisher", "_reset", "_rounds", "_started", "_told", "patience")

    def __init__(self, patience: Patience, publisher: Publisher, rounds: Rounds[Any]) -> None:
        self.patience = patience
        self._publisher = publisher
        self._rounds = rounds
        self._place = Place()
        self._told: LocalNode | None = None
        self._started = False
        self._reset = False

    def reset(self) -> bytes:
        """Begin anew: what makes the client forget everything, to be sent before the next round."""
        self._place, self._started, self._reset = Place(), False, True
        encoded: bytes = self._rounds.encoding.reset
        return encoded

    def resume(self, snapshot: Snapshot, node: str) -> None:
        """Begin where this node was told everything up to a snapshot."""
        self._place = place_of(snapshot, node)
        self._told = node_in(self._place, self._place, None)
        self._started = True

    async def next(self, node: str, *, at_once: bool = False) -> list[bytes]:
        """The next round, as soon as there is something to tell this node; the first one, and with ``at_once`` any,
        also if there is nothing."""
        self.patience.end()
        moved = self._started and node != self._place.node
        while True:
            snapshot = self._publisher.current if moved or at_once else None
            place = place_of(snapshot or await self._publisher.newer(self._place.snapshot), node)
            buffers = await (self._difference(place) if self._started else self._whole(place))
            if buffers or at_once:
                self.patience.begin()
                return [*buffers, self._rounds.encoding.sync(place.snapshot.revision)]
            moved = False

    def check(self, now: float) -> None:
        """Who is too slow pins an old snapshot: that is forgotten, and everything told anew. Who is up to date pins
        nothing."""
        if self.patience.is_over(now) and self._place.snapshot is not self._publisher.current:
            self._place, self._started, self._reset = Place(), False, False

    async def _whole(self, place: Place) -> list[bytes]:
        buffers = await self._rounds.whole(place)
        reset = () if self._reset else (self._rounds.encoding.reset,)
        return [*reset, *self._arrive(place), *buffers]

    async def _difference(self, place: Place) -> list[bytes]:
        changes = await self._rounds.between(self._place, place)
        return [*self._arrive(place), *([changes] if changes else ())]

    def _arrive(self, place: Place) -> list[bytes]:
        """Stand there from now on; returns what there is to tell of the node itself."""
        seen = node_in(place, self._place, self._told)
        news = seen != self._told or not self._started
        self._place, self._told, self._started = place, seen, True
        return [self._rounds.encoding.node(seen)] if news and seen.name else []
