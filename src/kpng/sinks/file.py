"""The ``to-file`` sink: the whole global state, written anew at each change."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import stat
import sys
import tempfile
from pathlib import Path

from kpng.model import EndpointSource, UserError
from kpng.store import EMPTY, Snapshot, Store
from kpng.wire.statefile import State, encode_state

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.05
_RETRY_SECONDS = 2.0
_MODE = 0o644


class NobodyReadsError(OSError):
    """A FIFO without a reader, which may still come."""


async def write_state_file(store: Store, path: str, *, once: bool = False) -> None:
    """Write each new complete state until cancelled (with ``once`` the first one only); changes that come while one
    is written become one.

    The file is replaced atomically, so that a reader sees the old state or the new one. ``-`` (standard output),
    devices and FIFOs get one YAML document a change. Raises `kpng.UserError` where the file cannot be written at
    the start; later failures (a full disk) are told and tried again.
    """
    written = EMPTY
    text = ""
    while True:
        snapshot = await store.newer(written)
        now = await asyncio.to_thread(_encode, snapshot)
        if now != text:
            await _write(path, now, first=not text)
            text = now
        if once:
            return
        written = snapshot
        await asyncio.sleep(_PAUSE_SECONDS)


def state_of(snapshot: Snapshot) -> State:
    """A snapshot as plain data."""
    state = State(nodes=dict(snapshot.nodes), service_cidrs=dict(snapshot.service_cidrs))
    for key, record in snapshot.services.items():
        if record.service is not None:
            state.services[key] = record.service
        for name, endpoints in record.sources.items():
            state.sources[key.namespace, name] = EndpointSource(key, endpoints)
    return state


def _encode(snapshot: Snapshot) -> str:
    return encode_state(state_of(snapshot))


async def _write(path: str, text: str, *, first: bool) -> None:
    trouble = ""
    while True:
        try:
            await asyncio.to_thread(_print if path == "-" else write_file, path, text)
        except OSError as error:
            if (first or path == "-") and not isinstance(error, NobodyReadsError):
                raise UserError(f"{path}: cannot write: {error.strerror or error}") from error
            trouble = _tell_once(path, error, trouble)
        else:
            return
        await asyncio.sleep(_RETRY_SECONDS)


def _tell_once(path: str, error: OSError, told: str) -> str:
    said = error.strerror or str(error)
    if said != told:
        log.warning("%s: cannot write: %s; trying again", path, said)
    return said


def _print(_: str, text: str) -> None:
    sys.stdout.write(_document(text))
    sys.stdout.flush()


def _document(text: str) -> str:
    return f"---\n{text}"


def write_file(path: str, text: str) -> None:
    """Replace the file by `replace_file`, or write into what is there if it is a device or a FIFO: a rename would
    put a file in its place. Raises OSError."""
    mode = os.stat(path).st_mode if os.path.exists(path) else stat.S_IFREG
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        replace_file(path, text)
    else:
        with os.fdopen(_open_for_writing(path, mode), "w", encoding="utf-8") as file:
            file.write(_document(text))


def _open_for_writing(path: str, mode: int) -> int:
    """Never wait for a FIFO's reader: the thread that waits would hold up the end of the program (fifo(7))."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno == errno.ENXIO and stat.S_ISFIFO(mode):
            raise NobodyReadsError(errno.ENXIO, "nobody reads it") from None
        raise
    os.set_blocking(descriptor, True)
    return descriptor


def replace_file(path: str, text: str) -> None:
    """Write a file so that at every moment, also after a crash, it is the old one or the new one whole.

    A symbolic link is followed; the file's mode is kept. Raises OSError.
    """
    target = Path(os.path.realpath(path))
    mode = target.stat().st_mode & 0o777 if target.exists() else _MODE
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last (fsync(2): the directory needs its own)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
