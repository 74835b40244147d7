"""The plan's nouns: sets, rules, chains, tables. Plain objects that both renderers read."""

from __future__ import annotations

from msgspec import Struct

from kpng.host.nftables import Hook, SetFlag
from kpng.model import Family

from .fields import Key
from .statements import Statement

TABLE = "kpng"


class Set(Struct, frozen=True):
    """A set; with ``data`` a map; with ``verdicts`` a verdict map. ``dynamic``: the packet path adds to it.
    ``interval``: its elements are intervals (of the last field, in a concatenation), see `intervals`.

    ``size`` is a hard limit. Dynamic sets must have one; others get one when they are made large, see
    `TableChange.sizes`.
    """

    name: str
    key: Key
    data: Key = ()
    verdicts: bool = False
    dynamic: bool = False
    interval: bool = False
    size: int = 0
    timeout_seconds: int = 0
    comment: str = ""

    @property
    def flags(self) -> SetFlag:
        dynamic = SetFlag.DYNAMIC | SetFlag.TIMEOUT if self.dynamic else SetFlag.NONE
        return dynamic | (SetFlag.INTERVAL if self.interval else SetFlag.NONE)


class Rule(Struct, frozen=True):
    statements: tuple[Statement, ...]
    comment: str = ""


class Base(Struct, frozen=True):
    """Where a base chain is hooked in."""

    kind: str
    hook: Hook
    priority: int


class Chain(Struct, frozen=True):
    name: str
    rules: tuple[Rule, ...]
    base: Base | None = None


class Table(Struct, frozen=True):
    """A table without its elements: the fixed part."""

    family: Family
    sets: tuple[Set, ...]
    chains: tuple[Chain, ...]


Elements = dict[str, dict[bytes, bytes]]
"""Elements by set: key to data (b"" in a set). Verdict maps are not among them, see `TableChange`."""


class TableChange(Struct):
    """What one transaction does to one table: chains of classes, elements, the fingerprint.

    A class is a number in the services map that says what kind of service it is (how many endpoints, which
    affinity timeout); its chain does the work, and its element in a classes map jumps there. Elements to
    delete are deleted before any is added, so a new value for a key is simply in both.
    """

    new_classes: list[tuple[str, bytes, Chain]]
    """Classes map, key, chain."""
    old_classes: list[tuple[str, bytes, str]]
    """Classes map, key, name of the chain."""
    deleted: Elements
    added: Elements
    old_fingerprint: str = ""
    new_fingerprint: str = ""
    sizes: dict[str, int] = {}
    """Of sets that are made with the table. With a size the kernel takes its fixed hash table, which is loaded in
    half the time and never rehashed; but whoever exceeds it is refused (`kernel.OutgrownError`)."""

    def __bool__(self) -> bool:
        return bool(self.new_classes or self.old_classes or self.deleted or self.added)
