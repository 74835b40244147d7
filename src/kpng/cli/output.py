"""Standard output: where it can no longer be written, the command ends, whichever part of it was writing."""

from __future__ import annotations

import io
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from kpng.model import UserError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputClosedError(UserError):
    """Who read our output has seen enough: the command ends quietly, as programs do by SIGPIPE (signal(7))."""


class _Output(io.FileIO):
    """Turns the system's errors into the user's. Tells each but once: what is still in buffers is dropped, so
    that flushing them at the end of the program does not fail again."""

    _failed = False

    def write(self, data: ReadableBuffer) -> int:
        view = memoryview(data)
        if self._failed:
            return view.nbytes
        try:
            self._until_writable()
            return super().write(view[: select.PIPE_BUF])  # so much a pipe takes without waiting (pipe(7))
        except (OSError, OutputClosedError) as error:
            self._failed = True
            raise _as_the_users(error) from None

    def _until_writable(self) -> None:
        poll = select.poll()
        poll.register(self, select.POLLOUT)
        if not poll.poll(0):
            with _ended_by_signals():
                poll.poll()


def _as_the_users(error: OSError | OutputClosedError) -> UserError:
    if isinstance(error, OutputClosedError):
        return error
    if isinstance(error, BrokenPipeError):
        return OutputClosedError("the reader of standard output went away")
    return UserError(f"standard output: cannot write: {error.strerror}")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """While we wait for a reader the event loop stands still, and cannot heed signals itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(*_: object) -> NoReturn:
    raise OutputClosedError("stopped while nobody read standard output")


def guard_standard_output() -> None:
    """Put a ``sys.stdout`` in place that raises `UserError` instead of OSError."""
    plain = sys.stdout  # None where it was closed when we were started
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(1, "w", closefd=False)),
        encoding=plain.encoding if plain else None,
        errors=plain.errors if plain else None,
        line_buffering=bool(plain and plain.isatty()),
    )
