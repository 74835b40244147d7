"""The books: what is programmed now, and what a change would do to it. No I/O.

A change is worked out as a `Draft`, made real by somebody else, and only then taken over with `Books.take`; if it
fails, the books never knew. All work is proportional to the services that change.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

from msgspec import Struct, field

from kpng.model import FAMILIES, Family, IPSet, LocalNode, LocalService, ServiceKey

from . import fingerprint
from .contents import SHARED_SETS, contents, mark
from .encode import skeleton_hash
from .frontends import Claimants, Claims, ClaimsDraft, Frontend, owned
from .layout import KINDS, Layout, class_name, nearby_classes
from .node import node_contents
from .options import Options
from .ruleset import Chain, Elements, TableChange

MOST_SPARE_CLASSES = 32
"""Chains of classes without a service are kept, up to this many: binding a new chain to a map makes the kernel
walk the map (17 ms at 100,000 endpoints), and numbers of endpoints go up and down all the time."""
MANY_ELEMENTS = 10_000
"""A table that begins with so many gets chains for the numbers of endpoints next to those in use, too: made before
the elements they cost next to nothing. And a set that begins with so many gets a fixed size."""
_ROOM = 2
"""Sets with a size have room for at least so many times what they begin with."""

T = TypeVar("T")
Class = tuple[str, int]
"""Kind of frontend and number of a class."""
Lost = list[tuple[Frontend, str]]

_NO_ADDRESSES = IPSet()
_CLASSES_BY_SET = {f"{kind}services": kind for kind in KINDS}


class TableBooks(Struct):
    """One table. ``shared`` and ``classes`` count the services that need an element or a class."""

    layout: Layout
    skeleton: str
    shared: Counter[tuple[str, bytes]] = field(default_factory=Counter)
    classes: Counter[Class] = field(default_factory=Counter)
    spare: dict[Class, None] = field(default_factory=dict)
    elements_hash: int = 0

    def fingerprint(self) -> str:
        return fingerprint.text(self.skeleton, self.elements_hash)


class TableDraft(Struct):
    """A change to one table, and what the books of it will then be."""

    change: TableChange
    shared: Counter[tuple[str, bytes]] = field(default_factory=Counter)
    classes: Counter[Class] = field(default_factory=Counter)
    spare: dict[Class, None] = field(default_factory=dict)
    elements_hash: int = 0


class Draft(Struct):
    """A change to everything. ``node`` is None where it stays as it is; ``lost`` has an entry for each service that
    was looked at."""

    services: Mapping[ServiceKey, LocalService | None]
    node: LocalNode | None
    claims: Mapping[bytes, Claimants]
    tables: dict[Family, TableDraft]
    lost: dict[ServiceKey, Lost]

    def __bool__(self) -> bool:
        return any(table.change for table in self.tables.values())


class Books:
    """What is programmed: services, the Node, who owns which frontend, and counts of what is shared."""

    def __init__(self, layouts: Mapping[Family, Layout]) -> None:
        self.services: dict[ServiceKey, LocalService] = {}
        self.node: LocalNode | None = None
        self.claims = Claims()
        self.tables = {f: TableBooks(layouts[f], skeleton_hash(layouts[f])) for f in FAMILIES}
        self.options: Options = layouts[FAMILIES[0]].options
        self._guarded: set[ServiceKey] = set()
        """Services with source ranges, for which the Node's addresses matter."""

    def draft(
        self,
        services: Mapping[ServiceKey, LocalService | None],
        *,
        node: LocalNode | None = None,
        fresh: bool = False,
    ) -> Draft:
        """What it takes to change these services (None: it goes) and the node (None: it stays).

        ``fresh``: nothing is there yet, neither what the node needs nor a fingerprint.
        """
        claims = ClaimsDraft(self.claims)
        for key, new in services.items():
            old = self.services.get(key)
            claims.replace(key, old.service if old else None, new.service if new else None)
        tables = {family: _DraftTable(books) for family, books in self.tables.items()}
        if fresh or node is not None:
            self._replace_node(tables, node, fresh=fresh)
        lost: dict[ServiceKey, Lost] = {}
        now = node or self.node
        for key in self._affected(services, claims, now):
            old = self.services.get(key)
            new = services.get(key, old)
            before, _ = self._contents(old, self.claims, self.node)
            after, lost[key] = self._contents(new, claims, now)
            for family in before.keys() | after.keys():
                tables[family].replace(before.get(family, {}), after.get(family, {}))
        finished = {family: table.finish(fresh=fresh) for family, table in tables.items()}
        return Draft(services, node, claims.changed, finished, lost)

    def _replace_node(self, tables: Mapping[Family, _DraftTable], node: LocalNode | None, *, fresh: bool) -> None:
        before = {} if fresh else node_contents(self.node, self.options)
        after = node_contents(node or self.node, self.options)
        for family, table in tables.items():
            table.replace(before.get(family, {}), after[family])

    def _affected(
        self, services: Iterable[ServiceKey], claims: ClaimsDraft, node: LocalNode | None
    ) -> Iterable[ServiceKey]:
        """The services that change and those that change with them."""
        others = set(claims.moved())
        if _addresses(node) != _addresses(self.node):
            others |= self._guarded
        return [*services, *sorted(others.difference(services))] if others else services

    def _contents(
        self, local: LocalService | None, claims: Claims | ClaimsDraft, node: LocalNode | None
    ) -> tuple[dict[Family, Elements], Lost]:
        if local is None:
            return {}, []
        mine, lost = owned(local.service, claims)
        return contents(local, mine, self.options, _addresses(node)), lost

    def take(self, draft: Draft) -> None:
        """The draft has become real."""
        for key, new in draft.services.items():
            if new is None:
                self.services.pop(key, None)
            else:
                self.services[key] = new
            if new is not None and new.service.source_ranges:
                self._guarded.add(key)
            else:
                self._guarded.discard(key)
        self.node = draft.node or self.node
        self.claims.update(draft.claims)
        for family, table in draft.tables.items():
            books = self.tables[family]
            _count(books.shared, table.shared)
            _count(books.classes, table.classes)
            books.spare = table.spare
            books.elements_hash = table.elements_hash

    def adopt_classes(self, family: Family, found: Iterable[Class]) -> None:
        """The table already has these classes; those that no service needs are spare."""
        books = self.tables[family]
        books.spare = {each: None for each in found if each not in books.classes}

    def owner_of(self, family: Family, key: bytes, draft: Draft) -> ServiceKey | None:
        """The service whose frontend an element's key begins with, before or after a draft."""
        prefix = b"4" if family is Family.IPV4 else b"6"
        for length in (8 + (4 if family is Family.IPV4 else 16), 8):
            claim = prefix + key[:length]
            claimants = draft.claims.get(claim) or self.claims.claimants(claim)
            if claimants:
                return claimants[0][1]
        return None


def _addresses(node: LocalNode | None) -> IPSet:
    return node.addresses if node else _NO_ADDRESSES


def _count(counter: Counter[T], delta: Mapping[T, int]) -> None:
    for key, number in delta.items():
        counter[key] += number
        if not counter[key]:
            del counter[key]


class _DraftTable:
    """Collects what services need more or less of in one table."""

    def __init__(self, books: TableBooks) -> None:
        self._books = books
        self._shared: Counter[tuple[str, bytes]] = Counter()
        self._classes: Counter[Class] = Counter()
        self._deleted: Elements = {}
        self._added: Elements = {}

    def replace(self, before: Elements, after: Elements) -> None:
        """One service needs ``after`` instead of ``before``."""
        for name in sorted(before.keys() | after.keys()):
            old, new = before.get(name, {}), after.get(name, {})
            if name in SHARED_SETS:
                self._share(name, old, new)
                continue
            gone = {key: data for key, data in old.items() if new.get(key) != data}
            come = {key: data for key, data in new.items() if old.get(key) != data} if old else new
            if gone:
                self._deleted.setdefault(name, {}).update(gone)
            if come:
                self._added.setdefault(name, {}).update(come)
            if name in _CLASSES_BY_SET:
                self._count_classes(_CLASSES_BY_SET[name], come, 1)
                self._count_classes(_CLASSES_BY_SET[name], gone, -1)

    def _share(self, name: str, old: Mapping[bytes, bytes], new: Mapping[bytes, bytes]) -> None:
        for key in new:
            if key not in old:
                self._shared[name, key] += 1
        for key in old:
            if key not in new:
                self._shared[name, key] -= 1

    def _count_classes(self, kind: str, services: Mapping[bytes, bytes], by: int) -> None:
        for data in services.values():
            self._classes[kind, _class_number(data)] += by

    def finish(self, *, fresh: bool) -> TableDraft:
        for (name, key), delta in self._shared.items():
            before = self._books.shared[name, key]
            if delta and not before:
                self._added.setdefault(name, {})[key] = b""
            elif delta and before + delta == 0:
                self._deleted.setdefault(name, {})[key] = b""
        change = TableChange([], [], self._deleted, self._added)
        spare = self._change_classes(change)
        if fresh:
            change.sizes = dict(self._sizes())
            if sum(map(len, self._added.values())) >= MANY_ELEMENTS:
                spare = dict.fromkeys(islice(self._nearby_classes(), MOST_SPARE_CLASSES))
                change.new_classes += map(self._new_class, spare)
        elements_hash = fingerprint.changed(self._books.elements_hash, self._deleted, self._added)
        if change or fresh:
            change.old_fingerprint = "" if fresh else self._books.fingerprint()
            change.new_fingerprint = fingerprint.text(self._books.skeleton, elements_hash)
        return TableDraft(change, self._shared, self._classes, spare, elements_hash)

    def _change_classes(self, change: TableChange) -> dict[Class, None]:
        """Make chains for classes that come into use; keep those that go out of it, up to a number."""
        spare = dict(self._books.spare)
        for each, delta in self._classes.items():
            before = self._books.classes[each]
            if delta and not before and each in spare:
                del spare[each]
            elif delta and not before:
                change.new_classes.append(self._new_class(each))
            elif delta and before + delta == 0:
                spare[each] = None
        while len(spare) > MOST_SPARE_CLASSES:
            kind, number = oldest = next(iter(spare))
            del spare[oldest]
            change.old_classes.append((f"{kind}classes", mark(number), class_name(kind, number)))
        return spare

    def _sizes(self) -> Iterator[tuple[str, int]]:
        """Powers of two, which a few services more or less do not change."""
        for name, added in self._added.items():
            if len(added) >= MANY_ELEMENTS and not self._books.layout.sets[name].interval:
                yield name, 1 << (_ROOM * len(added) - 1).bit_length()

    def _new_class(self, each: Class) -> tuple[str, bytes, Chain]:
        kind, number = each
        return f"{kind}classes", mark(number), self._books.layout.class_chain(kind, number)

    def _nearby_classes(self) -> Iterator[Class]:
        """Classes that no service needs yet, the nearest to those in use first."""
        known = set(self._classes)
        for distance in range(1, MOST_SPARE_CLASSES + 1):
            for kind, number in self._classes:
                new = {(kind, near) for near in nearby_classes(number, distance)} - known
                known |= new
                yield from sorted(new)


def _class_number(data: bytes) -> int:
    return int.from_bytes(data, sys.byteorder)
