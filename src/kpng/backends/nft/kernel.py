"""Makes drafts real: one transaction for both tables, adoption of what an earlier run left, verification."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Iterator, Mapping

from kpng.host.nftables import Kind, Nftables, TableFlag, TransactionError
from kpng.host.nftables.messages import delete_table, new_table
from kpng.model import FAMILIES, Family, LocalNode, LocalService, ServiceKey

from .books import Books, Draft
from .encode import change_messages, same_set, table_messages, teardown_messages
from .fields import show
from .layout import KINDS, STATE, Layout
from .ruleset import TABLE
from .statements import family_word, nft_family

log = logging.getLogger(__name__)

_OWNED = TableFlag.OWNER | TableFlag.PERSIST
Services = Mapping[ServiceKey, LocalService | None]


def _can_be_owned(flags: int) -> bool:
    """Whether a table was made with our flags: the owner's is cleared when the owner is gone, PERSIST stays."""
    return bool(flags & TableFlag.PERSIST)


def _unsupported(error: TransactionError) -> bool:
    return error.errno in {errno.EOPNOTSUPP, errno.EINVAL}


class ProgrammingError(Exception):
    """The kernel refused a change; nothing of it was done. The text names what, and whose it is if known."""


class OutgrownError(ProgrammingError):
    """A set is full. The next `Kernel.apply` makes a larger one, with all that is around it."""


def _not_ours(error: TransactionError) -> ProgrammingError:
    return ProgrammingError(f"table {TABLE} belongs to another process (is another kpng running?): {error}")


class Kernel:
    """The tables in the kernel. Not to be used by two threads at once."""

    def __init__(self, layouts: Mapping[Family, Layout], connection: Nftables) -> None:
        self._layouts = layouts
        self._connection = connection
        self._flags = _OWNED
        self.known = False
        """Whether what is in the kernel is what we think. If not, the next `apply` programs everything anew."""
        self._first = True
        self._owning = False
        self.books = Books(layouts)

    def apply(self, services: Services, *, full: bool, node: LocalNode | None = None) -> tuple[Draft, bool]:
        """Program these services; with ``full`` nothing else is to be there; ``node`` None: it is as before.
        Raises `ProgrammingError`.

        Gives the draft, and whether it was found to be there already (an adoption, which writes nothing).
        """
        if full:
            services = {**dict.fromkeys(self.books.services), **services}
        if not self.known:
            return self._start_over(services, node)
        draft = self.books.draft(services, node=node)
        if draft:
            self._change(draft)
        self.books.take(draft)
        return draft, False

    @property
    def owned(self) -> bool:
        """Whether the kernel keeps everybody else from changing the tables."""
        return self._owning and bool(self._flags)

    def claim(self) -> None:
        """Own what is there from now on. Raises `ProgrammingError` if it is somebody else's.

        A transaction of its own: the kernel takes no base chain in the one that claims a table (EINVAL).
        """
        if self._owning or not self._flags:
            return
        families = map(nft_family, FAMILIES)
        found = [f for f in families if _can_be_owned(self._connection.table_flags(f, TABLE) or 0)]
        try:
            self._connection.commit([new_table(family, TABLE, self._flags) for family in found])
        except TransactionError as error:
            raise _not_ours(error) if error.errno == errno.EPERM else ProgrammingError(str(error)) from error
        self._owning = len(found) == len(FAMILIES)

    def _change(self, draft: Draft) -> None:
        parts = [] if self._owning else list(self._claims())
        for family, table in draft.tables.items():
            if table.change:
                parts += change_messages(self._layouts[family], table.change)
        try:
            self._connection.commit(parts)
        except OSError as error:
            # Somebody changed the tables behind our back, or the answer was lost: say all of it anew next time.
            self.known = False
            if isinstance(error, TransactionError):
                raise self._explained(error, draft) from error
            raise
        self._owning = True

    def _claims(self) -> Iterator[bytes]:
        """An adopted table belongs to nobody until it is claimed, which is a write and so waits for one."""
        return (new_table(nft_family(family), TABLE, self._flags) for family in FAMILIES)

    def _start_over(self, services: Services, node: LocalNode | None) -> tuple[Draft, bool]:
        """Work out everything anew; leave it if it is there, else replace what is."""
        books = Books(self._layouts)
        everything = {**self.books.services, **services}
        draft = books.draft(everything, node=node or self.books.node, fresh=True)
        adopted = self._first and self._holds(draft)
        self._first = False  # an adoption that fails from here on is not tried again
        if not adopted:
            self._replace(draft)
        books.take(draft)
        if adopted:
            for family in FAMILIES:
                books.adopt_classes(family, self._classes(family))
        self.books = books
        self.known, self._owning = True, not adopted
        return draft, adopted

    def _holds(self, draft: Draft) -> bool:
        for family, table in draft.tables.items():
            if self._fingerprint(family) != table.change.new_fingerprint:
                return False
            flags = self._connection.table_flags(nft_family(family), TABLE)
            self._flags = _OWNED if _can_be_owned(flags or 0) else TableFlag.NONE
        return True

    def _fingerprint(self, family: Family) -> str:
        try:
            found = list(self._connection.elements(nft_family(family), TABLE, STATE))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return ""
            raise
        return found[0].comment if found else ""

    def _classes(self, family: Family) -> set[tuple[str, int]]:
        return {
            (kind, int.from_bytes(element.key, sys.byteorder))
            for kind in KINDS
            for element in self._connection.elements(nft_family(family), TABLE, f"{kind}classes")
        }

    def _replace(self, draft: Draft) -> None:
        try:
            self._commit_replacement(draft)
        except TransactionError as error:
            if self._flags is TableFlag.NONE or error.kind is not Kind.NEW_TABLE or not _unsupported(error):
                raise self._explained(error, draft) from error
            log.info("this kernel has no persistent table owners; a foreign 'nft flush ruleset' removes our tables")
            self._flags = TableFlag.NONE
            self._replace(draft)

    def _commit_replacement(self, draft: Draft) -> None:
        self.claim()
        parts: list[bytes] = []
        for family, table in draft.tables.items():
            teardown, kept = self._teardown(family)
            parts += teardown
            parts += table_messages(self._layouts[family], self._flags, kept, table.change.sizes)
            parts += change_messages(self._layouts[family], table.change)
        self._connection.commit(parts)

    def _teardown(self, family: Family) -> tuple[list[bytes], set[str]]:
        """Messages that remove what is there, and the names of sets that stay: those the packet path fills, so
        that clients keep their endpoints."""
        nft = nft_family(family)
        flags = self._connection.table_flags(nft, TABLE)
        if flags is None:
            return [], set()
        if _can_be_owned(flags) != (self._flags is _OWNED):  # a table cannot get the flags later
            return [delete_table(nft, TABLE)], set()
        sets, wanted = self._connection.sets(nft, TABLE), self._layouts[family].sets
        dynamic = [name for name in sets if name in wanted and wanted[name].dynamic]
        kept = {name for name in dynamic if same_set(sets[name], wanted[name])}
        gone = [name for name in sets if name not in kept]
        return list(teardown_messages(nft, self._connection.chains(nft, TABLE), gone)), kept

    def _explained(self, error: TransactionError, draft: Draft) -> ProgrammingError:
        """Name the element and the service."""
        if error.errno == errno.EPERM:
            return _not_ours(error)
        if error.errno == errno.ENFILE and error.kind is Kind.NEW_ELEMENTS:
            return OutgrownError(f"{error.name} is full")
        family = next((f for f in FAMILIES if nft_family(f) == error.family), None)
        if family is None or error.key is None or error.name not in self._layouts[family].sets:
            return ProgrammingError(str(error))
        element = show(self._layouts[family].sets[error.name].key, error.key)
        owner = self.books.owner_of(family, error.key, draft)
        whose = f" (service {owner})" if owner else ""
        where = f"{family_word(family)} {TABLE} {error.name}"
        return ProgrammingError(f"nf_tables refused {where}: element {element}{whose}: {error.strerror}")


def remove_tables(connection: Nftables) -> list[str]:
    """Delete both tables, whoever left them. Gives the names of those that were there."""
    there = [f for f in FAMILIES if connection.table_flags(nft_family(f), TABLE) is not None]
    connection.commit([delete_table(nft_family(family), TABLE) for family in there])
    return [f"{family_word(family)} {TABLE}" for family in there]
