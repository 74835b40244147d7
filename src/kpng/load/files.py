"""Manifests instead of an API server: a file, or a folder of them, that ``kpng file`` follows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from kpng.model import UserError

from .churn import Write
from .objects import Object

_SERVICES_IN_A_FILE = 100
"""A change rewrites one file: in a folder it is of so many services only."""

Key = tuple[str, str, str]


class FileWriter:
    """Keeps manifests at ``path`` up to date: everything in it if it ends in .json, .yaml or .yml, else a folder of
    files. Each is replaced at once, so that a reader sees the old state or the new one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_folder = path.suffix not in (".json", ".yaml", ".yml")
        self._files: dict[Path, dict[Key, bytes]] = {}
        self._changed: set[Path] = set()
        self._waiting = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """The writes in this block are done at its end, each file once."""
        self._waiting = True
        try:
            yield
            self._flush()
        finally:
            self._waiting = False

    async def write(self, write: Write) -> None:
        """Carry out one write, which cannot fail but for the disk. Raises `UserError`."""
        thing = write.object
        file = self._file(thing)
        entries = self._files.setdefault(file, {})
        key = (thing["kind"], thing["metadata"].get("namespace", ""), thing["metadata"]["name"])
        if write.verb == "delete":
            entries.pop(key, None)
        else:
            entries[key] = msgspec.json.encode(thing)
        self._changed.add(file)
        if not self._waiting:
            self._flush()

    def _flush(self) -> None:
        for file in sorted(self._changed):
            items = b",\n".join(self._files[file].values())
            _replace(file, b'{"apiVersion":"v1","kind":"List","items":[\n%s\n]}\n' % items)
        self._changed.clear()

    def _file(self, thing: Object) -> Path:
        if not self._is_folder:
            return self._path
        metadata = thing["metadata"]
        service = metadata.get("labels", {}).get("kubernetes.io/service-name", metadata["name"])
        number = service.rpartition("-")[2]
        if thing["kind"] not in ("Service", "EndpointSlice") or not number.isdecimal():
            return self._path / f"{thing['kind'].lower()}s.json"
        return self._path / f"services-{int(number) // _SERVICES_IN_A_FILE:05}.json"


def _replace(file: Path, content: bytes) -> None:
    """A reader of a folder does not look at the new file before it has its name."""
    new = file.with_name(f".{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(content)
        os.replace(new, file)
    except OSError as error:
        raise UserError(f"{file}: cannot write: {error.strerror}") from error
