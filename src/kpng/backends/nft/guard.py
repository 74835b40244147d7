"""Guards what is programmed: notices that somebody else wrote to nf_tables, reads our tables back, repairs them.

Tables that we own need no guard, for the kernel keeps everybody else out. Not owned are tables adopted by a start
that had nothing to change (claiming them would be a write), and all tables where the kernel has no persistent
owners (before Linux 6.9). Asking whether anybody wrote costs 10 µs; only then is there something to read.
"""

from __future__ import annotations

import asyncio
import logging
import time

from kpng.host.nftables import Nftables

from .kernel import Kernel, ProgrammingError
from .verify import differences

log = logging.getLogger(__name__)

CHECK_SECONDS = 0.5
_REST = 10
"""Rest this many times as long as a check took: reading 100,000 endpoints back takes 0.3 s."""
_SETTLE_SECONDS = 0.2
"""The kernel's dump is not exact while it resizes a hash table; by then it is done."""


class Guard:
    """Keeps the tables as ``kernel`` programmed them. ``turn`` is held by whoever uses the kernel."""

    def __init__(self, kernel: Kernel, connection: Nftables, turn: asyncio.Lock) -> None:
        self._kernel = kernel
        self._connection = connection
        self._turn = turn
        self._seen: int | None = None
        """Foreign writes at the last check that ended well."""
        self._was_owned = kernel.owned
        self._complaint = ""
        self._checking = asyncio.Lock()

    async def run(self) -> None:
        while True:
            start = time.monotonic()
            try:
                await self.check()
            except Exception as error:  # whatever it is, it must not be the end of the guard
                self._complain("cannot look after the tables", error)
            await asyncio.sleep(max(CHECK_SECONDS, _REST * (time.monotonic() - start)))

    async def check(self) -> None:
        """If somebody else may have touched the tables since the last check: read, repair, and claim them.

        One check at a time: what another has found may be mended already.
        """
        async with self._checking:
            await self._check()

    async def _check(self) -> None:
        async with self._turn:
            foreign, owned = self._foreign_writes(), self._kernel.owned
            disturbed = self._seen is not None  # right after an adoption nobody has written yet, nor do we
        if self._kernel.known and (self._was_owned or foreign == self._seen):
            self._was_owned = owned
            return
        found = await self._lasting_differences()
        async with self._turn:
            if await self._mended(found, claim=disturbed):
                self._seen, self._was_owned = foreign, self._kernel.owned

    def _foreign_writes(self) -> int:
        """How many transactions were not ours, up to a constant."""
        return self._connection.generation() - self._connection.commits

    async def _mended(self, found: list[str], *, claim: bool) -> bool:
        try:
            if found:
                log.warning("the tables are not as programmed, programming them anew: %s", "; ".join(found))
                self._kernel.known = False
            if not self._kernel.known:
                await asyncio.to_thread(self._kernel.apply, {}, full=False)
            elif claim:
                self._kernel.claim()
        except (OSError, ProgrammingError) as error:
            self._complain("cannot repair the tables", error)
            return False
        self._complaint = ""
        return True

    def _complain(self, what: str, error: Exception) -> None:
        """One fault is logged once, not at each check."""
        said = f"{what}, trying again: {str(error) or type(error).__name__}"
        log.log(logging.DEBUG if said == self._complaint else logging.WARNING, "%s", said)
        self._complaint = said

    async def _lasting_differences(self) -> list[str]:
        """What is still wrong after a while. The first look is beside the work, the others hold it up. Raises
        `InterruptedError` where others write all the time: that is no sign of damage."""
        commits = self._connection.commits
        try:
            found = await asyncio.to_thread(self._differences)
        except InterruptedError as error:  # it may be ourselves who wrote
            found = [str(error)]
        for _ in range(2):
            if not found and commits == self._connection.commits:
                break
            await asyncio.sleep(_SETTLE_SECONDS)
            async with self._turn:
                commits = self._connection.commits
                found = await asyncio.to_thread(self._differences)
        return found

    def _differences(self) -> list[str]:
        if not self._kernel.known:
            return []
        try:
            return differences(self._connection, self._kernel.books)
        except InterruptedError:
            raise
        except OSError as error:
            return [f"cannot be read: {error}"]
