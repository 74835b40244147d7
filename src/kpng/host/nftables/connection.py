"""Talking to nf_tables: transactions, dumps, the generation."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence

from kpng.host.netlink import (
    HEADER,
    DumpInterruptedError,
    NetfilterSocket,
    NetlinkError,
    attribute_map,
)

from . import messages
from .elements import DumpedElement, dumped_elements, dumped_pairs, element_at
from .messages import BODY_OFFSET, Family, Kind

_DUMP_ATTEMPTS = 10
_GENERIC_LENGTH = 4


class TransactionError(OSError):
    """The kernel refused a transaction, and none of it was done.

    ``kind`` says what sort of message was refused, ``table``, ``name`` (of a set or a chain) and ``key`` (of an
    element) which object, as far as known.
    """

    def __init__(self, cause: NetlinkError, refused: bytes | None) -> None:
        self.kind: Kind | None = None
        self.family = 0
        self.table = self.name = ""
        self.key: bytes | None = None
        if refused is not None:
            self._read(cause, refused)
        super().__init__(cause.errno, cause.strerror)

    def _read(self, cause: NetlinkError, refused: bytes) -> None:
        self.kind = Kind(HEADER.unpack_from(refused)[1] & 0xFF)
        self.family = refused[HEADER.size]
        found = attribute_map(refused, BODY_OFFSET)
        self.table = _text(found.get(1))
        self.name = _text(found.get(3 if self.kind in {Kind.NEW_CHAIN, Kind.DELETE_CHAIN} else 2))
        if self.kind in {Kind.NEW_ELEMENTS, Kind.DELETE_ELEMENTS} and cause.offset is not None:
            self.key = element_at(refused, cause.offset)
        elif self.kind in {Kind.NEW_TABLE, Kind.DELETE_TABLE}:
            self.name = ""

    def __str__(self) -> str:
        family = {Family.IPV4: "ip", Family.IPV6: "ip6"}.get(Family(self.family), "") if self.family else ""
        what = self.kind.name.lower().replace("_", " ") if self.kind is not None else "transaction"
        where = " ".join(part for part in (family, self.table, self.name) if part)
        element = f" element {self.key.hex()}" if self.key is not None else ""
        return f"nf_tables refused: {what} {where}{element}: {self.strerror}"


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")


class Nftables:
    """A connection to nf_tables of the network namespace it was made in. Raises `OSError` if there is none.

    Tables with the owner flag belong to the connection that made them, as long as it is open.
    """

    def __init__(self) -> None:
        self._socket = NetfilterSocket()
        self.commits = 0
        """Transactions made here; each moves the generation by one."""

    def close(self) -> None:
        self._socket.close()

    def commit(self, parts: Sequence[bytes]) -> None:
        """All of it, or `TransactionError` and nothing of it."""
        try:
            self._socket.transact(messages.batch_begin(), parts, messages.batch_end())
        except NetlinkError as error:
            refused = parts[error.index] if 0 <= error.index < len(parts) else None
            raise TransactionError(error, refused) from error
        self.commits += bool(parts)

    def generation(self) -> int:
        """The number of the ruleset's generation: every transaction of anybody in the namespace moves it."""
        answer = self._socket.request(messages.get_generation())
        return int.from_bytes(attribute_map(answer, _GENERIC_LENGTH)[1], "big")

    def table_flags(self, family: Family, table: str) -> int | None:
        """The flags of a table; None if there is no such table."""
        try:
            answer = self._socket.request(messages.get_table(family, table))
        except NetlinkError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return int.from_bytes(attribute_map(answer, _GENERIC_LENGTH).get(2, b"\0"), "big")

    def chains(self, family: Family, table: str) -> list[str]:
        return [_text(found[3]) for found in self._objects(Kind.GET_CHAIN, family, table)]

    def sets(self, family: Family, table: str) -> dict[str, dict[int, bytes]]:
        """The sets of a table by name, with their attributes (NFTA_SET_*)."""
        return {_text(found[2]): found for found in self._objects(Kind.GET_SET, family, table)}

    def rules(self, family: Family, table: str) -> list[str]:
        """The chain of every rule of a table, in order."""
        return [_text(found[2]) for found in self._objects(Kind.GET_RULE, family, table)]

    def elements(self, family: Family, table: str, name: str) -> Iterator[DumpedElement]:
        """The elements of a set. Time grows with the square of their number; 100,000 take about 0.3 s in the
        kernel."""
        return dumped_elements(self._dump(messages.dump_request(Kind.GET_ELEMENTS, family, table, name)))

    def pairs(
        self, family: Family, table: str, name: str, key_length: int, data_length: int = 0
    ) -> dict[bytes, bytes]:
        """The keys of a set, the keys and data of a map: much faster than `elements`, for large ones."""
        dumped = self._dump(messages.dump_request(Kind.GET_ELEMENTS, family, table, name))
        return dumped_pairs(dumped, key_length, data_length)

    def _objects(self, kind: Kind, family: Family, table: str) -> Iterator[dict[int, bytes]]:
        for answer in self._dump(messages.dump_request(kind, family, table)):
            found = attribute_map(answer, _GENERIC_LENGTH)
            if answer[0] == family and _text(found.get(1)) == table:  # old kernels do not filter
                yield found

    def _dump(self, request: bytes) -> list[bytes]:
        """Raises `InterruptedError` where others write all the time, so that no dump is of one generation."""
        for _ in range(_DUMP_ATTEMPTS):
            with contextlib.suppress(DumpInterruptedError):
                return self._socket.dump(request)
        raise InterruptedError("the tables kept changing while they were read")
