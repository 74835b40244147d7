"""The files behind a path: what they hold now, read again only where they changed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from kpng.kube.convert import Filters
from kpng.model import Problem, UserError

from .documents import UnreadableError
from .manifests import Content, merge, read_content

_SUFFIXES = (".yaml", ".yml", ".json")
_UNSURE_SECONDS = 0.1
"""A file changed so lately may change again without its timestamp showing it (ticks are some milliseconds)."""

Signature = tuple[int, int, int]
"""(inode, time of change in nanoseconds, size)."""


class _Entry(Struct):
    """What is known of one file. ``content`` None: it never was good."""

    signature: Signature | None = None
    digest: bytes = b""
    content: Content | None = None
    trouble: Problem | None = None


class InputFiles:
    """A state file, a manifest, or a folder of manifests. Blocking; call in a thread.

    A file that is not good keeps what it held when it last was. A file that goes away takes its objects with
    it, but only out of a folder that is still there: a path that vanishes as a whole keeps everything.
    """

    def __init__(self, path: str, filters: Filters) -> None:
        self._path = Path(path)
        self._filters = filters
        self._entries: dict[Path, _Entry] = {}
        self._looked = False

    def check(self) -> None:
        """Raise `kpng.UserError` unless there is something that can be read."""
        try:
            if self._path.is_dir():
                os.listdir(self._path)
            else:
                self._path.open("rb").close()
        except OSError as error:
            raise UserError(f"{self._path}: {_why(error)}") from None

    def refresh(self) -> bool:
        """Look at the files again; whether anything is different from last time (the first time: yes)."""
        first, self._looked = not self._looked, True
        return self._refresh() or first

    def _refresh(self) -> bool:
        if not self._path.is_dir():
            return self._refresh_file(self._path)
        files = list(self._found())
        gone = self._entries.keys() - files
        for path in gone:
            del self._entries[path]
        return bool(sum([self._refresh_file(path) for path in files])) or bool(gone)

    def content(self) -> Content | None:
        """What all files hold together; None while a single file has never been good."""
        good = [(str(path), entry.content) for path, entry in sorted(self._entries.items()) if entry.content]
        if not good and self._path in self._entries:
            return None
        return merge(good)

    def troubles(self) -> list[Problem]:
        """The files that are not good now."""
        return [entry.trouble for entry in self._entries.values() if entry.trouble]

    def _found(self) -> Iterator[Path]:
        """Manifests in the folder and below, hidden ones not (a ConfigMap volume keeps its versions in those)."""
        for folder, folders, names in os.walk(self._path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = Path(folder, name)
                if name.endswith(_SUFFIXES) and not name.startswith(".") and path.is_file():
                    yield path

    def _refresh_file(self, path: Path) -> bool:
        entry = self._entries.setdefault(path, _Entry())
        try:
            signature = _signature(path)
            if signature is not None and signature == entry.signature:
                return False
            raw = path.read_bytes()
        except OSError as error:
            return self._trouble(entry, path, 0, f"{_why(error)}; what it held last is kept")
        entry.signature = signature
        digest = hashlib.blake2b(raw).digest()
        if digest == entry.digest and entry.trouble is None:
            return False
        entry.digest = digest
        return self._parse(entry, path, raw)

    def _parse(self, entry: _Entry, path: Path, raw: bytes) -> bool:
        try:
            entry.content = read_content(raw, str(path), self._filters)
        except UnreadableError as error:
            kept = "; what it held last is kept" if entry.content else ""
            return self._trouble(entry, path, error.line, error.message + kept)
        entry.trouble = None
        return True

    def _trouble(self, entry: _Entry, path: Path, line: int, message: str) -> bool:
        before, entry.trouble = entry.trouble, Problem(f"{path}:{line}" if line else str(path), "", message)
        return before != entry.trouble


def _signature(path: Path) -> Signature | None:
    """None if it is too young to be told from a later one."""
    status = path.stat()
    young = time.time() - status.st_mtime < _UNSURE_SECONDS
    return None if young else (status.st_ino, status.st_mtime_ns, status.st_size)


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
