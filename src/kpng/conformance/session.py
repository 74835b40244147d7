"""A backend at work on a manifest: file source, store, localize, backend, all of them as in ``kpng file``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kpng.backends import Backend, run_backend
from kpng.kube.convert import Filters
from kpng.localize import change_sets
from kpng.model import ChangeSet, ProblemLog
from kpng.sources.file import FileSource
from kpng.store import Store

from .flows import Object

APPLY_SECONDS = 10.0


class NotAppliedError(Exception):
    """The backend did not make a scenario's state real; the text says what is known."""


class _Watched(Backend):
    """Mixed into a backend's class: counts what was applied, and keeps what went wrong."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.applied = 0
        self.fault = ""
        self.advanced = asyncio.Event()

    async def apply(self, changes: ChangeSet) -> None:
        try:
            await super().apply(changes)  # type: ignore[safe-super]
        except Exception as error:
            self.fault = f"{type(error).__name__}: {error}"
            raise
        self.applied += 1
        self.advanced.set()


def watched(backend: type[Backend]) -> type[Backend]:
    """The same backend, whose progress a `Session` can follow."""
    return type(backend.__name__, (_Watched, backend), {})


class Session:
    """A running backend, and the manifest file it follows."""

    def __init__(self, backend: Backend, path: Path, node: str, filters: Filters) -> None:
        assert isinstance(backend, _Watched), "made of a class that `watched` returned"
        self._backend = backend
        self._path = path
        store = Store()
        source = FileSource(str(path), ProblemLog(), filters)
        self._tasks = [
            asyncio.create_task(source.run(store)),
            asyncio.create_task(run_backend(backend, change_sets(store, node))),
        ]

    async def applied(self) -> None:
        """Wait until the next change is applied. Raises `NotAppliedError`, or what ended source or backend."""
        advanced = asyncio.create_task(self._backend.advanced.wait())
        try:
            await asyncio.wait([advanced, *self._tasks], timeout=APPLY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            advanced.cancel()
        if self._backend.advanced.is_set():
            self._backend.advanced.clear()
            return
        for task in filter(asyncio.Task.done, self._tasks):
            task.result()
        raise NotAppliedError(self._backend.fault or f"nothing applied within {APPLY_SECONDS:g} s")

    async def change(self, content: Object) -> None:
        """Write another manifest and wait until it is applied."""
        write(self._path, content)
        await self.applied()

    async def close(self) -> None:
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def session(
    backend: Backend, path: Path, node: str, content: Object, *, external_ips: bool = True
) -> AsyncIterator[Session]:
    """Run a backend on these manifests, which are applied when the block begins. ``external_ips``: as
    `Filters.external_ips`."""
    write(path, content)
    running = Session(backend, path, node, Filters(external_ips=external_ips))
    try:
        await running.applied()
        yield running
    finally:
        await running.close()


def write(path: Path, content: Object) -> None:
    """Put the manifests there at once: the source must not see half of them."""
    whole = path.with_name(f".{path.name}.new")
    whole.write_text(json.dumps(content))
    whole.replace(path)
