"""Verification: read the tables back and compare them with the books. Costs time, so it runs beside the work."""

from __future__ import annotations

from collections import Counter

from kpng.host.nftables import Nftables
from kpng.host.nftables.elements import dumped_intervals
from kpng.model import FAMILIES, Family

from . import fingerprint
from .books import Books, TableBooks
from .fields import registers
from .layout import STATE, Layout
from .ruleset import TABLE, Set
from .statements import family_word, nft_family


def differences(connection: Nftables, books: Books) -> list[str]:
    """What the tables hold that they should not, or lack: a line for each table that differs.

    Only as good as the tables stand still meanwhile: compare the generation before and after.
    """
    found = [_table_difference(connection, family, books.tables[family]) for family in FAMILIES]
    return [line for line in found if line]


def _table_difference(connection: Nftables, family: Family, books: TableBooks) -> str:
    where = f"table {family_word(family)} {TABLE}"
    nft = nft_family(family)
    if connection.table_flags(nft, TABLE) is None:
        return f"{where} is gone"
    names = connection.sets(nft, TABLE).keys()
    if set(names) != set(books.layout.sets):
        return f"{where} has other sets"
    if Counter(connection.rules(nft, TABLE)) != _expected_rules(books):
        return f"{where} has other rules"
    if _elements_hash(connection, family, books.layout) != books.elements_hash:
        return f"{where} has other elements"
    return ""


def _expected_rules(books: TableBooks) -> Counter[str]:
    chains = [*books.layout.table.chains]
    chains += [books.layout.class_chain(*each) for each in {*books.classes, *books.spare}]
    return Counter({chain.name: len(chain.rules) for chain in chains})


def _elements_hash(connection: Nftables, family: Family, layout: Layout) -> int:
    total = 0
    for name, wanted in layout.sets.items():
        if wanted.dynamic or wanted.verdicts or name == STATE:
            continue
        total += fingerprint.set_hash(name, _held(connection, family, wanted))
    return total % (1 << 128)


def _held(connection: Nftables, family: Family, wanted: Set) -> dict[bytes, bytes]:
    """A set's elements as the books would have them. While a hash table grows or shrinks, the kernel may repeat
    some (and skip others)."""
    where = (nft_family(family), TABLE, wanted.name)
    if wanted.interval:
        return {first + last: b"" for first, last in dumped_intervals(connection.elements(*where))}
    return connection.pairs(*where, 4 * registers(wanted.key), 4 * registers(wanted.data))
