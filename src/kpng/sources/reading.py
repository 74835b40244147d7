"""Bytes from outside: never more of them than is sensible, and nothing that waits holds up the end."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

from .documents import UnreadableError

MAX_BYTES = 256 * 1024 * 1024
"""A state file of 100,000 endpoints has some 20 MB."""

_CHUNK = 1 << 20


def is_stream(path: Path) -> bool:
    """Whether there is something that is read once, to its end: a FIFO, ``<(…)`` of the shell, a device."""
    return path.exists() and not path.is_file() and not path.is_dir()


def read_file(path: Path) -> bytes:
    """All of a file. Raises OSError, and `UnreadableError` for one that is too large or no file at all."""
    # O_NONBLOCK: a FIFO that has just taken the file's place must not hold us up (fifo(7)).
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError(0, "is no longer a file")
        _check_size(status.st_size)
        return _read(descriptor)
    finally:
        os.close(descriptor)


async def read_to_end(stream: Path | int) -> bytes:
    """All that a stream (a path or an open descriptor) will ever give. Raises as `read_file`.

    A thread of its own, which nobody waits for: a pool's thread that waits for input would hold up the end of
    the program.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()

    def finish(result: bytes | Exception) -> None:
        if done.cancelled():
            return
        if isinstance(result, bytes):
            done.set_result(result)
        else:
            done.set_exception(result)

    def read() -> None:
        result: bytes | Exception
        try:
            with open(stream, "rb", buffering=0, closefd=isinstance(stream, Path)) as file:
                result = _read(file.fileno())
        except (OSError, UnreadableError) as error:
            result = error
        with suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(finish, result)

    threading.Thread(target=read, name=f"reader of {stream}", daemon=True).start()
    return await done


def _read(descriptor: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := os.read(descriptor, _CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        _check_size(size)
    return b"".join(chunks)


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise UnreadableError(0, f"more than {MAX_BYTES} bytes")


def reason(error: OSError) -> str:
    """What went wrong, in lower case as behind a colon."""
    return (error.strerror or str(error)).lower()
