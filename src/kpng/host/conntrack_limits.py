"""How much conntrack may hold, and for how long (kernel: Documentation/networking/nf_conntrack-sysctl)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .sysctl import ROOT, Outcome, Setting, ensure_file, ensure_sysctl

_HIGHEST_BY_CORES = 1 << 20
_ENTRIES_PER_BUCKET = 4
_CPUS = "sys/devices/system/cpu/online"
_HASHSIZE = "sys/module/nf_conntrack/parameters/hashsize"
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")


@dataclass(frozen=True)
class ConntrackLimits:
    """What to ask for; 0 (or False) leaves a value alone. Times are in seconds.

    ``floor`` is the least maximum where there is one at all, that is with ``max_per_core``.
    """

    max_per_core: int = 0
    floor: int = 0
    tcp_established: int = 0
    tcp_close_wait: int = 0
    tcp_be_liberal: bool = False
    udp: int = 0
    udp_stream: int = 0

    def maximum(self, cores: int) -> int:
        """How many entries to allow; 0: as many as there are allowed. The cap is on what the number of cores
        asks for, never on the floor that somebody has chosen (kube-proxy's X8)."""
        if not self.max_per_core:
            return 0
        return max(min(self.max_per_core * cores, _HIGHEST_BY_CORES), self.floor)


def online_cores(root: Path = ROOT) -> int:
    """The machine's, not the container's share. At least 1."""
    try:
        ranges = _RANGE.findall((root / _CPUS).read_text())
    except OSError:
        return 1
    return max(1, sum(int(last or first) - int(first) + 1 for first, last in ranges))


def apply_conntrack_limits(limits: ConntrackLimits, root: Path = ROOT) -> list[Setting]:
    """Set what is asked for; never raises, the outcomes tell."""
    return [*_size(limits.maximum(online_cores(root)), root), *_behaviour(limits, root)]


def _size(maximum: int, root: Path) -> Iterator[Setting]:
    """With more entries than buckets by far, each lookup walks a list; the kernel's own ratio was 4."""
    if not maximum:
        return
    yield ensure_sysctl("net.netfilter.nf_conntrack_max", maximum, root)
    wanted = maximum // _ENTRIES_PER_BUCKET
    path = root / _HASHSIZE
    if _number(path) < wanted:
        yield ensure_file("nf_conntrack hashsize", path, wanted)


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _behaviour(limits: ConntrackLimits, root: Path) -> Iterator[Setting]:
    values = {
        "nf_conntrack_tcp_timeout_established": limits.tcp_established,
        "nf_conntrack_tcp_timeout_close_wait": limits.tcp_close_wait,
        "nf_conntrack_tcp_be_liberal": int(limits.tcp_be_liberal),
        "nf_conntrack_udp_timeout": limits.udp,
        "nf_conntrack_udp_timeout_stream": limits.udp_stream,
    }
    for name, value in values.items():
        if value:
            yield ensure_sysctl(f"net.netfilter.{name}", value, root)


def set_oom_score_adj(value: int, root: Path = ROOT) -> Setting:
    """How much the kernel spares this process when memory runs out: proc_pid_oom_score_adj(5)."""
    return ensure_file("oom_score_adj", root / "proc/self/oom_score_adj", value)


def failures(settings: list[Setting]) -> list[Setting]:
    return [setting for setting in settings if setting.outcome is Outcome.FAILED]
