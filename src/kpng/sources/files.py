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
from .reading import read_file, reason

_SUFFIXES = (".yaml", ".yml", ".json")
_QUIET_SECONDS = 0.1
"""A file changed so lately may be half-written, and change again without its timestamp showing it (ticks are some
milliseconds)."""

Signature = tuple[int, int, int]
"""(inode, time of change in nanoseconds, size)."""


class _Entry(Struct):
    """What is known of one file. ``content`` None: it never was good."""

    signature: Signature | None = None
    digest: bytes = b""
    content: Content | None = None
    trouble: Problem | None = None
    missing: bool = False


class InputFiles:
    """A state file, a manifest, or a folder of manifests. Blocking; call in a thread.

    A file that is not good keeps what it held when it last was. A file that goes away takes its objects with
    it, but only out of a folder that is still there: a path that vanishes as a whole keeps everything.

    ``unsettled``: the last look found something in the middle of a change. Editors write in place, and take a
    file away before they put the new one there.
    """

    def __init__(self, path: str, filters: Filters) -> None:
        self._path = Path(path)
        self._filters = filters
        self._entries: dict[Path, _Entry] = {}
        self._looked = False
        self.unsettled = False

    def check(self) -> None:
        """Raise `kpng.UserError` unless there is something that can be read."""
        try:
            if self._path.is_dir():
                os.listdir(self._path)
            else:
                self._path.open("rb").close()
        except OSError as error:
            raise UserError(f"{self._path}: {reason(error)}") from None

    def refresh(self, *, patient: bool = False) -> bool:
        """Look at the files again; whether anything is different from last time (the first time: yes).

        ``patient``: what is unsettled is left as it was.
        """
        first, self._looked, self.unsettled = not self._looked, True, False
        return self._refresh(patient and not first) or first

    def _refresh(self, patient: bool) -> bool:
        if not self._path.is_dir():
            return self._refresh_file(self._path, patient)
        files = list(self._found())
        changed = [self._refresh_file(path, patient) for path in files]
        changed += [self._drop(path, patient) for path in self._entries.keys() - files]
        return any(changed)

    def _drop(self, path: Path, patient: bool) -> bool:
        """Forget a file that is not there; if patient, at the second look."""
        if patient and not self._entries[path].missing:
            self._entries[path].missing = self.unsettled = True
            return False
        del self._entries[path]
        return True

    def content(self) -> Content | None:
        """What all files hold together; None while a single file has never been good."""
        good = [(str(path), entry.content) for path, entry in sorted(self._entries.items()) if entry.content]
        if not good and self._path in self._entries:
            return None
        return merge(good)

    def troubles(self) -> list[Problem]:
        """The files that are not good now, or that there is none."""
        if not self._entries:
            looked_for = ", ".join(f"*{suffix}" for suffix in _SUFFIXES)
            return [Problem(str(self._path), "", f"no manifests in this folder (looked for {looked_for})")]
        return [entry.trouble for entry in self._entries.values() if entry.trouble]

    def _found(self) -> Iterator[Path]:
        """Manifests in the folder and below, hidden ones not (a ConfigMap volume keeps its versions in those)."""
        for folder, folders, names in os.walk(self._path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = Path(folder, name)
                if name.endswith(_SUFFIXES) and not name.startswith(".") and path.is_file():
                    yield path

    def _refresh_file(self, path: Path, patient: bool) -> bool:
        entry = self._entries.setdefault(path, _Entry())
        entry.missing = False
        try:
            status = path.stat()
            signature = (status.st_ino, status.st_mtime_ns, status.st_size)
            if signature == entry.signature:
                return False
            young = abs(time.time() - status.st_mtime) < _QUIET_SECONDS
            if young and patient:
                self.unsettled = True
                return False
            raw = read_file(path)
        except OSError as error:
            return self._trouble(entry, path, 0, f"{reason(error)}; what it held last is kept")
        except UnreadableError as error:
            return self._unreadable(entry, path, error)
        entry.signature = None if young else signature
        digest = hashlib.blake2b(raw).digest()
        if digest == entry.digest and entry.trouble is None:
            return False
        entry.digest = digest
        return self._parse(entry, path, raw)

    def _parse(self, entry: _Entry, path: Path, raw: bytes) -> bool:
        try:
            entry.content = read_content(raw, str(path), self._filters)
        except UnreadableError as error:
            return self._unreadable(entry, path, error)
        entry.trouble = None
        return True

    def _unreadable(self, entry: _Entry, path: Path, error: UnreadableError) -> bool:
        kept = "; what it held last is kept" if entry.content else ""
        return self._trouble(entry, path, error.line, error.message + kept)

    def _trouble(self, entry: _Entry, path: Path, line: int, message: str) -> bool:
        before, entry.trouble = entry.trouble, Problem(f"{path}:{line}" if line else str(path), "", message)
        return before != entry.trouble
