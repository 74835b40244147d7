"""From a command to its end: event loop, signals, exit codes."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import Any, NoReturn

import click
import uvloop

from kpng.model import UserError
from kpng.ops import run_until_signal

log = logging.getLogger(__name__)

EXIT_FAILED = 1
EXIT_USER_ERROR = 2


class UserMistake(click.ClickException):
    """A `UserError` on its way to the terminal: one line, exit code 2."""

    exit_code = EXIT_USER_ERROR

    def show(self, file: Any = None) -> None:
        click.echo(f"kpng: error: {self.format_message()}", err=True, file=file)


def run_to_end(work: Coroutine[Any, Any, int | None]) -> None:
    """Run a command's coroutine. Exit codes: 0 done or stopped by a signal, 1 failed, 2 the user's mistake."""
    try:
        code = uvloop.run(run_until_signal(work))
    except* UserError as errors:
        raise UserMistake(str(_first(errors))) from None
    except* Exception as errors:
        _fail(_first(errors))
    if code:
        raise click.exceptions.Exit(code)


def _fail(error: BaseException) -> NoReturn:
    log.error("%s: %s", type(error).__name__, error)
    log.debug("traceback", exc_info=error)
    raise click.exceptions.Exit(EXIT_FAILED)


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
