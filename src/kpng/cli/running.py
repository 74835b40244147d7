"""From a command to its end: event loop, signals, exit codes."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Coroutine, Iterator
from typing import Any

import click

from kpng.model import UserError
from kpng.ops import run_until_signal

from .output import OutputClosedError

log = logging.getLogger(__name__)

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USER_ERROR = 2

GC_THRESHOLDS = (100_000, 50, 100)
"""Python's own (700, 10, 10) look for cycles again and again while a large state is being built, which has none:
10 to 20 % of the start with 100,000 endpoints."""


class UserMistake(click.ClickException):
    """A `UserError` on its way to the terminal: one line, exit code 2."""

    exit_code = EXIT_USER_ERROR

    def show(self, file: Any = None) -> None:
        click.echo(f"kpng: error: {self.format_message()}", err=True, file=file)


def run_to_end(work: Coroutine[Any, Any, int | None]) -> None:
    """Run a command's coroutine. Exit codes: 0 done, stopped by a signal or no longer read, 1 failed, 2 the user's
    mistake."""
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        code = _run(run_until_signal(work))
    except Exception as error:  # not except*: what is raised inside that comes out as a group again
        raise _ending(list(_causes(error))) from None
    if code:
        raise click.exceptions.Exit(code)


def _run(work: Coroutine[Any, Any, int | None]) -> int | None:
    try:
        import uvloop  # noqa: PLC0415 -- not there on every system
    except ModuleNotFoundError:
        return asyncio.run(work)
    return uvloop.run(work)


def _ending(errors: list[Exception]) -> Exception:
    """How the command ends. What the user can mend comes before what may only follow from it."""
    mistake = next((error for error in errors if isinstance(error, UserError)), None)
    if isinstance(mistake, OutputClosedError):
        return click.exceptions.Exit(EXIT_DONE)
    if mistake is not None:
        return UserMistake(str(mistake))
    log.error("%s: %s", type(errors[0]).__name__, errors[0])
    log.debug("traceback", exc_info=errors[0])
    return click.exceptions.Exit(EXIT_FAILED)


def _causes(error: Exception) -> Iterator[Exception]:
    """What task groups have wrapped."""
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    else:
        yield error
