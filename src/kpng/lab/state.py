"""What a lab leaves on disk while it lives: a directory below /run with lock, state, logs and manifests."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kpng.model import UserError

from .topology import prefix

RUN = Path("/run")
LOCK = "lock"


def directory(name: str) -> Path:
    """A lab's own directory, for example ``/run/kpng-lab``."""
    return RUN / prefix(name).rstrip("-")


@dataclass(slots=True)
class State:
    """``state.json``: who started the lab, whether it is meant to outlive that process, and what runs in it."""

    owner: int
    started: float
    nodes: int
    kept: bool = False
    processes: dict[str, int] = field(default_factory=dict)

    def write(self, name: str) -> None:
        """Write it whole or not at all."""
        target = directory(name) / "state.json"
        draft = target.with_suffix(".tmp")
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(target)


def read(name: str) -> State | None:
    """The state of a lab; None if there is none, or none that can be read (a killed lab)."""
    try:
        return State(**json.loads((directory(name) / "state.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


class LockHeldError(UserError):
    """Another process has this lab; ``owner`` is its pid."""

    def __init__(self, name: str, owner: int) -> None:
        super().__init__(
            f"a lab named {name!r} is already running (pid {owner}); wait for it, end it with "
            f"'kpng lab down --name {name}', or start another with --name"
        )
        self.owner = owner


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Be the only process that has this lab. The kernel drops the lock when we die, however we die.

    Raises `LockHeldError`.
    """
    handle = _acquire(name)
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _acquire(name: str) -> int:
    path = directory(name) / LOCK
    while True:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:  # its last owner is just removing the directory
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except BlockingIOError:
            owner = int(os.pread(handle, 20, 0) or 0)
            os.close(handle)
            raise LockHeldError(name, owner) from None
        # Its last owner removed the file between our open and our lock: take the new one.
        os.close(handle)
