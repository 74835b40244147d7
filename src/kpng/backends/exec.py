"""`to-exec`: hands the local state to a program of yours, as JSON on its standard input."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from asyncio.subprocess import Process
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, ClassVar

import click

from kpng.model import ChangeSet, UserError

from .contract import Backend
from .document import LocalState


class ProgramError(Exception):
    """The program failed; the runtime will run it again."""


class ExecBackend(Backend):
    """Runs the program once for each change set. It gets the whole local state, never a difference, so a run
    that failed or was killed loses nothing: the next one has everything."""

    help = """Run PROGRAM at each change, with the whole local state as JSON on its standard input.

    The document is that of 'to-print --output json'. Environment: KPNG_FULL=1 on the first run. A program
    that fails (exit code other than 0) or takes too long is run again, with backoff and the newest state.

    \b
    kpng local --api brain:12090 to-exec -- ./update-haproxy.sh --reload
    """
    options: ClassVar = (
        click.Option(
            ["--timeout"],
            type=click.FloatRange(min=0, min_open=True),
            default=60.0,
            show_default=True,
            help="Seconds after which a run is ended and counts as failed.",
        ),
        click.Argument(["program"], nargs=-1, required=True),
    )

    def __init__(self, program: tuple[str, ...], timeout: float = 60.0) -> None:
        self._program = program
        self._timeout = timeout
        self._state = LocalState()

    async def start(self) -> None:
        if shutil.which(self._program[0]) is None:
            raise UserError(f"to-exec: no program {self._program[0]!r} that can be executed")

    async def apply(self, changes: ChangeSet) -> None:
        state = self._state.after(changes)
        with _as_file(json.dumps(state.document()) + "\n") as document:
            process = await asyncio.create_subprocess_exec(
                *self._program, stdin=document, env=_environment(changes.full), start_new_session=True
            )
        try:
            async with asyncio.timeout(self._timeout):
                code = await process.wait()
        except TimeoutError:
            raise ProgramError(f"{self._program[0]} did not end within {self._timeout:g} s") from None
        finally:
            await _end(process)
        if code:
            raise ProgramError(f"{self._program[0]} ended with exit code {code}")
        self._state = state


@contextmanager
def _as_file(text: str) -> Iterator[IO[str]]:
    """A file in memory, at its beginning. Not a pipe: a program may read late, in part, or not at all."""
    with open(os.memfd_create("kpng-state"), "w+") as file:
        file.write(text)
        file.seek(0)
        yield file


async def _end(process: Process) -> None:
    """End the program's process group if it still runs, so that nothing of a failed run lingers."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _environment(full: bool) -> dict[str, str]:
    return os.environ | {"KPNG_FULL": "1" if full else "0"}
