"""The lab's processes: each inside a namespace, with a log of its own, and watched while it should live."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from .cleanup import MARK
from .netns import Namespace

LOG_LINES = 15
POLL_SECONDS = 0.02


class LabError(RuntimeError):
    """Something in the lab did not happen as it should; the text says what, and what the logs say."""


class Processes:
    """Starts processes, keeps their logs in ``logs``, and notices when one ends early."""

    def __init__(self, lab: str, logs: Path) -> None:
        self._lab = lab
        self._logs = logs
        self._running: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str, namespace: Namespace, *command: str) -> None:
        """Start ``command`` as process ``name``. A session of its own: Ctrl-C in our terminal is ours alone."""
        environment = os.environ | {MARK: self._lab, "PYTHONUNBUFFERED": "1"}
        with self.log(name).open("a") as output:
            self._running[name] = namespace.popen(
                *command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self._running.items()}

    def check(self) -> None:
        """Raise `LabError` if a process has ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise LabError(f"{name} ended early, exit code {process.returncode}{self.tail(name)}")

    async def stop(self, name: str, seconds: float = 2.0) -> None:
        """End one process by SIGTERM. Raises `LabError` if it does not end in time."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while process.poll() is None:
            if time.monotonic() > deadline:
                self._running[name] = process
                raise LabError(f"{name} did not end within {seconds:g} s of SIGTERM{self.tail(name)}")
            await asyncio.sleep(POLL_SECONDS)

    async def wait_for(self, name: str, what: str, seconds: float, met: Callable[[], Awaitable[bool]]) -> None:
        """Wait until ``met`` holds. Raises `LabError` after ``seconds``, or as soon as a process ends."""
        deadline = time.monotonic() + seconds
        while not await met():
            self.check()
            if time.monotonic() > deadline:
                raise LabError(f"{name}: {what} did not happen within {seconds:g} s{self.tail(name)}")
            await asyncio.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """End all at once."""
        for process in self._running.values():
            process.kill()
        for process in self._running.values():
            process.wait()
        self._running.clear()

    def leave(self) -> None:
        """Let all live on without us."""
        for process in self._running.values():
            process.returncode = 0  # else Popen warns that we forgot about it
        self._running.clear()

    def tail(self, name: str) -> str:
        """The last lines of a process's log, to be put behind an error message."""
        try:
            lines = self.log(name).read_text(errors="replace").splitlines()[-LOG_LINES:]
        except OSError:
            lines = []
        shown = "\n".join(f"  {line}" for line in lines) or "  (empty)"
        return f"; last lines of {self.log(name)}:\n{shown}"
