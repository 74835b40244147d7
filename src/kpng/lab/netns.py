"""Network namespaces: each is a machine of its own as far as the network goes (network_namespaces(7))."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
COMMAND_SECONDS = 60.0
_libc = ctypes.CDLL(None, use_errno=True)


class CommandError(RuntimeError):
    """A command failed; the text holds the command and what it said."""


def run(argv: Sequence[str], *, stdin: str | None = None) -> str:
    """Run a command to its end and return its standard output. Raises `CommandError`."""
    # A process group of its own: Ctrl-C at the terminal ends us, who then clean up, not half a command.
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, check=False, process_group=0, timeout=COMMAND_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise CommandError(f"{' '.join(argv)}: not done within {COMMAND_SECONDS:g} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise CommandError(f"{' '.join(argv)}: exit {done.returncode}: {said}")
    return done.stdout


class Namespace:
    """One named network namespace. ``create`` and ``delete`` it, or use it as a context manager."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> Namespace:
        self.create()
        return self

    def __exit__(self, *_: object) -> None:
        self.delete()

    @property
    def path(self) -> str:
        return f"/run/netns/{self.name}"

    def exists(self) -> bool:
        return os.path.exists(self.path)

    def create(self) -> None:
        """Make it, with its loopback interface up."""
        run(["ip", "netns", "add", self.name])
        self.run("ip", "link", "set", "lo", "up")

    def delete(self) -> None:
        """End the processes inside and remove it. Does nothing if it does not exist."""
        if not self.exists():
            return
        self.kill(signal.SIGKILL)
        run(["ip", "netns", "delete", self.name])

    def pids(self) -> list[int]:
        """The processes inside; none if the name stands for the namespace we are in ourselves."""
        if os.path.samefile(self.path, "/proc/self/ns/net"):
            return []
        return [int(pid) for pid in run(["ip", "netns", "pids", self.name]).split() if int(pid) != os.getpid()]

    def kill(self, number: signal.Signals, seconds: float = 5.0) -> None:
        """Send a signal to every process inside and wait until they are gone."""
        deadline = time.monotonic() + seconds
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        while self.pids() and time.monotonic() < deadline:
            time.sleep(0.01)

    def argv(self, *command: str) -> list[str]:
        """The command line that runs ``command`` inside."""
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Run a command inside to its end and return its output. Raises `CommandError`."""
        return run(self.argv(*command), stdin=stdin)

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a process inside. ``ip netns exec`` replaces itself, so its pid is the command's."""
        return subprocess.Popen(self.argv(*command), text=True, **options)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in a thread that has entered the namespace; sockets it makes stay inside."""
        with self.executor() as executor:
            return executor.submit(function).result()

    def executor(self) -> ThreadPoolExecutor:
        """One thread that has entered the namespace, for many calls. Shut it down after use."""
        return ThreadPoolExecutor(max_workers=1, initializer=self._enter)

    def _enter(self) -> None:
        with open(self.path, "rb") as handle:
            if _libc.setns(handle.fileno(), _CLONE_NEWNET):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), self.path)


def connect(left: Namespace, left_name: str, right: Namespace, right_name: str) -> None:
    """Join two namespaces by a veth pair; both ends are up."""
    left.run("ip", "link", "add", left_name, "type", "veth", "peer", "name", right_name, "netns", right.name)
    left.run("ip", "link", "set", left_name, "up")
    right.run("ip", "link", "set", right_name, "up")
