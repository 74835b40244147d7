"""A file of all changes, so that a server that was killed has everything again, revisions and history included."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from kpng.lab.apiserver.registry import Object
from kpng.lab.apiserver.resources import kind_of
from kpng.lab.apiserver.storage import Event, Storage


class _Line(msgspec.Struct):
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Object


class Journal:
    """Lines as those of a watch, one for each change. It has all that was answered, unless the machine crashes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def keep(self, storage: Storage) -> int:
        """Bring back what the file has, and write down what happens from now on. Returns how many changes it had.

        Raises ValueError if the file is no journal. A last line that is cut off was never answered, and is dropped.
        """
        count, end = 0, 0
        with self._path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                _repeat(storage, line)
                count, end = count + 1, end + len(line)
        os.ftruncate(self._file, end)
        storage.journal = self._append
        return count

    def _append(self, event: Event) -> None:
        os.write(self._file, b'{"type":"%s","object":%s}\n' % (event.type.encode(), event.now.encoded))


def _repeat(storage: Storage, line: bytes) -> None:
    try:
        change = msgspec.json.decode(line, type=_Line)
        kind, revision = kind_of(change.object), int(change.object["metadata"]["resourceVersion"])
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise ValueError(f"not a journal: {error}") from error
    storage.revision = revision - 1
    if change.type == "DELETED":
        storage.remove(kind, kind.key(change.object))
    else:
        storage.write(kind, change.object)
