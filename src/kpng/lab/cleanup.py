"""Removes a lab, whatever is left of it: it trusts names and marks, not the records of a process that died."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from kpng.model import UserError

from .netns import Namespace
from .state import LOCK, LockHeldError, directory, lock
from .topology import prefix

MARK = "KPNG_LAB_PROCESS"  # in the environment of every process of a lab; the value is the lab's name
NETNS = Path("/run/netns")


def namespaces(name: str) -> list[Namespace]:
    """The network namespaces of a lab that exist now, finished or not."""
    if not NETNS.is_dir():
        return []
    return [Namespace(path.name) for path in sorted(NETNS.iterdir()) if path.name.startswith(prefix(name))]


def processes(name: str) -> list[int]:
    """The processes a lab has started, by the mark in their environment (proc_pid_environ(5))."""
    mark = f"{MARK}={name}".encode()
    return [pid for pid in _all_pids() if pid != os.getpid() and mark in _environment(pid)]


def sweep(name: str) -> str:
    """Remove processes, namespaces and files of a lab, but the lock, which the caller holds. Says what it did."""
    ended = _kill(name)
    removed = namespaces(name)
    for namespace in removed:
        namespace.delete()
    ended += _kill(name)  # one that was just being started inside a namespace
    for path in directory(name).iterdir():
        if path.name != LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return f"ended {ended} processes, removed {len(removed)} network namespaces"


def down(name: str, patience: float = 5.0) -> str:
    """End a lab: one that was kept, one that was killed, or one that another process is just running.

    Raises `UserError` for a name that cannot be, or without the rights.
    """
    prefix(name)
    check_root()
    deadline = time.monotonic() + patience
    asked = False
    while True:
        try:
            with lock(name):
                said = sweep(name)
                shutil.rmtree(directory(name))
                return said
        except LockHeldError as held:
            number = signal.SIGTERM if not asked else signal.SIGKILL if time.monotonic() > deadline else None
            asked = True
            if number and held.owner:
                _signal(held.owner, number)
            time.sleep(0.05)


def check_root() -> None:
    """Raise `UserError` if we are not root."""
    if os.geteuid() != 0:
        raise UserError("the lab is made of network namespaces, which only root may make and remove: try sudo")


def _kill(name: str, seconds: float = 5.0) -> int:
    pids = processes(name)
    for pid in pids:
        _signal(pid, signal.SIGKILL)
    deadline = time.monotonic() + seconds
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.005)
    return len(pids)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _alive(pid: int) -> bool:
    """Whether a process still holds anything; a zombie (our own child, not yet waited for) does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _all_pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (OSError, ProcessLookupError):
        return []
