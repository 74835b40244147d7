"""Kernel parameters: files below /proc/sys, and what keeps us from writing them."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

ROOT = Path("/")


class Outcome(Enum):
    """What became of a parameter that was to have a value."""

    SET = "set"
    ALREADY = "already"
    FAILED = "failed"


@dataclass(frozen=True)
class Setting:
    """One parameter, the value it should have, and what came of it. ``reason``: why not, in words."""

    name: str
    value: str
    outcome: Outcome
    reason: str = ""

    def __str__(self) -> str:
        if self.outcome is Outcome.FAILED:
            return f"cannot set {self.name} to {self.value}: {self.reason}"
        return f"{'set' if self.outcome is Outcome.SET else 'left'} {self.name} at {self.value}"


def sysctl_path(name: str, root: Path = ROOT) -> Path:
    """``net.netfilter.nf_conntrack_max`` -> /proc/sys/net/netfilter/nf_conntrack_max (sysctl(8))."""
    return root / "proc/sys" / name.replace(".", "/")


def ensure_sysctl(name: str, value: int | str, root: Path = ROOT) -> Setting:
    """Give a parameter its value; one that has it already is not written."""
    return ensure_file(name, sysctl_path(name, root), value)


def ensure_file(name: str, path: Path, value: int | str) -> Setting:
    """As `ensure_sysctl`, for any file of the kernel's that holds one value."""
    wanted = str(value)
    try:
        if path.read_text().strip() == wanted:
            return Setting(name, wanted, Outcome.ALREADY)
        _write(path, wanted)
    except OSError as error:
        return Setting(name, wanted, Outcome.FAILED, _reason(path, error))
    return Setting(name, wanted, Outcome.SET)


def _write(path: Path, text: str) -> None:
    """In one write: the kernel takes each for a value of its own."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _reason(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        module = " (is the module nf_conntrack loaded?)" if "nf_conntrack" in str(path) else ""
        return f"this kernel has no {path}{module}"
    if error.errno == errno.EROFS:
        return "/proc/sys is read-only here; give the container privileges, or run it once with --init-only"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "not permitted; it takes root in the network namespace of the machine"
    if error.errno == errno.EOPNOTSUPP:
        return "only possible in the network namespace of the machine"
    return error.strerror or str(error)
