"""The ``file`` source: a state file, or Kubernetes manifests, followed while they change."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from watchfiles import awatch

from kpng.kube.convert import Filters
from kpng.kube.problems import ProblemScope
from kpng.model import ProblemLog, UserError
from kpng.store import Kind, Store

from .documents import UnreadableError
from .files import InputFiles
from .manifests import Content, read_content
from .reading import is_stream, read_to_end, reason

log = logging.getLogger(__name__)
logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of every event

_DEBOUNCE_MILLISECONDS = 100
_STEP_MILLISECONDS = 20
_LOOK_AGAIN_SECONDS = 1.0
_SETTLE_SECONDS = 0.05
_PATIENT_LOOKS = 10
_GIVEN = "given-by-option"
"""As if there were a ServiceCIDR of that name."""


class FileSource:
    """Fills the store from a path: a state file, a manifest, a folder of manifests, or a stream.

    Kernel notifications (inotify) only say when to look: the files are also looked at every second, for what
    notifications miss (network file systems, links that lead elsewhere, folders that are made anew).

    ``service_cidrs``: where cluster IPs come from, beside the ServiceCIDRs that the files hold.

    A single file that is not good from the start is waited for; with ``once`` (nobody wants a second state) it is
    an error.
    """

    def __init__(
        self,
        path: str,
        problems: ProblemLog,
        filters: Filters | None = None,
        *,
        once: bool = False,
        service_cidrs: Sequence[str] = (),
    ) -> None:
        self._path = path
        self._once = once
        self._service_cidrs = service_cidrs
        self._problems = ProblemScope(problems)
        self._filters = filters or Filters()

    async def run(self, store: Store) -> None:
        """Follow until cancelled; a stream (``-``, a FIFO, a device) is read once. Raises `kpng.UserError`."""
        if self._path == "-":
            self._use(store, await self._read_stream(0, "standard input"))
            return
        if await asyncio.to_thread(is_stream, Path(self._path)):
            self._use(store, await self._read_stream(Path(self._path), self._path))
            return
        files = InputFiles(self._path, self._filters)
        await asyncio.to_thread(files.check)
        await self._reload(store, files)
        while True:
            await self._watch(store, files)
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            await self._reload(store, files)

    async def _read_stream(self, stream: Path | int, name: str) -> Content:
        try:
            return read_content(await read_to_end(stream), name, self._filters)
        except UnreadableError as error:
            line = f":{error.line}" if error.line else ""
            raise UserError(f"{name}{line}: {error.message}") from None
        except OSError as error:
            raise UserError(f"{name}: {reason(error)}") from None

    async def _watch(self, store: Store, files: InputFiles) -> None:
        """Look whenever something happens in the folder; returns when that folder is no longer the same."""
        folder, recursive = _watched(self._path)
        identity = _identity(folder)
        if identity is None:
            return
        try:
            async for _ in awatch(
                folder,
                watch_filter=None,
                debounce=_DEBOUNCE_MILLISECONDS,
                step=_STEP_MILLISECONDS,
                rust_timeout=int(_LOOK_AGAIN_SECONDS * 1000),
                yield_on_timeout=True,
                recursive=recursive,
            ):
                await self._reload(store, files)
                if _identity(folder) != identity:
                    return
        except (OSError, RuntimeError) as error:  # watchfiles' own where no inotify instance is left is the latter
            log.debug("%s: cannot be watched: %s", folder, error)

    async def _reload(self, store: Store, files: InputFiles) -> None:
        if not await _look(files):
            return
        content = await asyncio.to_thread(files.content)
        if content is not None:
            self._use(store, content, files)
        elif self._once:
            raise UserError("; ".join(map(str, files.troubles())))
        else:
            self._problems.report_all(files.troubles())

    def _use(self, store: Store, content: Content, files: InputFiles | None = None) -> None:
        """One transaction holds everything; what is equal to before changes nothing."""
        state = content.state
        with store.transaction() as tx:
            tx.replace(*Kind)
            for service in state.services.values():
                tx.set_service(service)
            for (_, name), source in state.sources.items():
                tx.set_source(name, source.service, source.endpoints)
            for node in state.nodes.values():
                tx.set_node(node)
            for name, cidrs in state.service_cidrs.items():
                tx.set_service_cidrs(name, cidrs)
            if self._service_cidrs:
                tx.set_service_cidrs(_GIVEN, self._service_cidrs)
        self._problems.report_all([*content.problems, *(files.troubles() if files else ())])


async def _look(files: InputFiles) -> bool:
    """Whether anything is different; what is just being written is waited for, but not for ever."""
    changed = await asyncio.to_thread(files.refresh, patient=True)
    for number in range(1, _PATIENT_LOOKS + 1):
        if not files.unsettled:
            break
        await asyncio.sleep(_SETTLE_SECONDS)
        changed |= await asyncio.to_thread(files.refresh, patient=number < _PATIENT_LOOKS)
    return changed


def _watched(path: str) -> tuple[str, bool]:
    """The folder to watch, and whether what is below it counts. For a file, the folder it is in: a watch on the
    file itself would end when another is renamed over it."""
    if os.path.isdir(path):
        return path, True
    return os.path.dirname(os.path.abspath(path)), False


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino
