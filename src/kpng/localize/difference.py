"""What differs between two snapshots for whom: worked out once for all nodes to which it is the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from msgspec import Struct

from kpng.model import LocalService, ServiceChange, ServiceKey
from kpng.store import EMPTY, ServiceRecord, Snapshot

from .answers import answers_of, localize

Change = tuple[ServiceKey, ServiceChange]


class Place(Struct, frozen=True):
    """Where a reader stands: a snapshot, and who the reader was then (a node and its zone)."""

    snapshot: Snapshot = EMPTY
    node: str = ""
    zone: str = ""

    def answer(self, key: ServiceKey) -> LocalService | None:
        record = self.snapshot.services.get(key)
        return localize(record, self.node, self.zone) if record else None


def changes_between(old: Place, new: Place) -> Iterator[Change | None]:
    """Each service whose answer differs, in key order; None, so that a caller may pause, for one that was looked at
    in vain. The services that are looked at: those that changed; all, if the reader has become another."""
    if (old.node, old.zone) == (new.node, new.zone):
        keys = new.snapshot.changed_services(old.snapshot)
    else:
        keys = sorted({*old.snapshot.services, *new.snapshot.services})
    return _compared(keys, old, new)


def _compared(keys: Iterable[ServiceKey], old: Place, new: Place) -> Iterator[Change | None]:
    for key in keys:
        change = ServiceChange(old.answer(key), new.answer(key))
        yield (key, change) if change.differs else None


class Difference:
    """What differs between two snapshots, for readers whose node and zone stay as they are; once it is compared."""

    def __init__(self, old: Snapshot, new: Snapshot) -> None:
        self.keys = new.changed_services(old)
        """The services that differ."""
        self._old, self._new = old, new
        self._records: list[_RecordDifference] = []
        self._nodes: set[str] = set()
        self._zones: set[str] = set()

    @classmethod
    def between(cls, old: Snapshot, new: Snapshot) -> Difference:
        """All at once."""
        made = cls(old, new)
        for _ in made.compare():
            pass
        return made

    def compare(self) -> Iterator[None]:
        """Look at each service that differs. A caller may pause in between, as new answers take their time; if it
        does not come to the end, somebody else begins anew."""
        self._records.clear()
        for key in self.keys:
            record = _RecordDifference(self._old.services.get(key), self._new.services.get(key))
            self._records.append(record)
            self._nodes |= record.nodes
            self._zones |= record.zones
            yield

    def view(self, node: str, zone: str) -> tuple[str, str]:
        """What it depends on for a reader: (node, zone), each "" where it makes no difference.

        All readers with one view are told the same, so it can be worked out once. A node is a view of its own only
        if something differs in what *it* hosts: of a change among 1,000 endpoints, the other 999 hosts are told
        what everybody is told.
        """
        seen = zone if zone in self._zones else ""
        if node not in self._nodes:
            return "", seen
        return (node if any(record.matters(node, seen) for record in self._records) else "", seen)

    def changes(self, view: tuple[str, str]) -> Iterator[Change | None]:
        """As `changes_between`, for one view."""
        return _compared(self.keys, Place(self._old, *view), Place(self._new, *view))


class _RecordDifference:
    """One service before and after."""

    __slots__ = ("_after", "_before", "_same_service", "_touched", "nodes", "zones")

    def __init__(self, before: ServiceRecord | None, after: ServiceRecord | None) -> None:
        self._before = answers_of(before) if before else None
        self._after = answers_of(after) if after else None
        self._same_service = bool(before and after and before.service == after.service)
        self._touched: dict[str, frozenset[str]] = {}
        answers = [each for each in (self._before, self._after) if each]
        self.nodes = frozenset[str]().union(*(each.nodes for each in answers))
        self.zones = frozenset[str]().union(*(each.zones for each in answers))

    def matters(self, node: str, zone: str) -> bool:
        """Whether a node is told anything else than all others of its zone.

        It is not where its own answers are made of the shared ones in the same way (`Answers.for_node`), and
        nothing of what is made anew in them is among what changed.
        """
        before, after = self._before, self._after
        if node not in self.nodes:
            return False
        if before is None or after is None or not self._same_service:
            return True
        hosted = before.hosted(node)
        if before.is_special_to(node) or after.is_special_to(node) or hosted != after.hosted(node):
            return True
        return not self._touched_in(zone).isdisjoint(key for key, _ in hosted)

    def _touched_in(self, zone: str) -> frozenset[str]:
        """Keys of the endpoints that differ in the answers shared in a zone."""
        touched = self._touched.get(zone)
        if touched is None:
            assert self._before is not None
            assert self._after is not None
            change = ServiceChange(self._before.shared(zone), self._after.shared(zone))
            names = chain((name for name, _ in change.endpoints_set()), change.endpoints_deleted())
            touched = self._touched[zone] = frozenset(name.partition("::")[0] for name in names)
        return touched
