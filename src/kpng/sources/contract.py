"""What a source is: a thing that fills the store."""

from __future__ import annotations

from typing import Protocol

from kpng.store import Store


class Source(Protocol):
    """Fills a store and keeps it current."""

    async def run(self, store: Store) -> None:
        """Follow until cancelled. Returns only where the input has an end (standard input).

        Raises `kpng.UserError` for what the user can mend; everything else is retried inside.
        """
