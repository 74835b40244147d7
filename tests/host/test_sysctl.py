"""P1, P2, P4, X8: kernel parameters, in a directory that stands for the kernel's, and in a namespace's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kpng.host.conntrack_limits import (
    ConntrackLimits,
    apply_conntrack_limits,
    failures,
    online_cores,
    set_oom_score_adj,
)
from kpng.host.sysctl import Outcome, ensure_sysctl, sysctl_path
from kpng.lab.netns import Namespace

NETFILTER = "proc/sys/net/netfilter"


class Kernel:
    """Files as the kernel has them. A file's age tells whether it was written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, path: str, value: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value)
        os.utime(file, (0, 0))

    def get(self, path: str) -> str:
        return (self.root / path).read_text().strip()

    def written(self, path: str) -> bool:
        return (self.root / path).stat().st_mtime != 0


DEFAULTS = {
    "nf_conntrack_max": "65536",
    "nf_conntrack_tcp_timeout_established": "432000",
    "nf_conntrack_tcp_timeout_close_wait": "60",
    "nf_conntrack_tcp_be_liberal": "0",
    "nf_conntrack_udp_timeout": "30",
    "nf_conntrack_udp_timeout_stream": "120",
}


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    made = Kernel(tmp_path)
    for name, value in DEFAULTS.items():
        made.put(f"{NETFILTER}/{name}", f"{value}\n")
    made.put("sys/module/nf_conntrack/parameters/hashsize", "16384\n")
    made.put("sys/devices/system/cpu/online", "0-7\n")
    made.put("proc/self/oom_score_adj", "0\n")
    return made


MAXIMUM = [
    # max_per_core, floor, cores -> maximum
    (0, 0, 8, 0),
    (0, 131072, 8, 0),
    (32768, 131072, 2, 131072),
    (32768, 131072, 4, 131072),
    (32768, 131072, 8, 262144),
    (32768, 0, 1, 32768),
    (32768, 131072, 32, 1048576),
    (32768, 131072, 256, 1048576),
    (32768, 2_000_000, 256, 2_000_000),  # X8
    (32768, 2_000_000, 1, 2_000_000),
    (10_000_000, 1, 1, 1048576),
]


@pytest.mark.parametrize(("per_core", "floor", "cores", "maximum"), MAXIMUM)
def test_p1_x8_how_many_entries(per_core: int, floor: int, cores: int, maximum: int) -> None:
    assert ConntrackLimits(max_per_core=per_core, floor=floor).maximum(cores) == maximum


@pytest.mark.parametrize(
    ("text", "cores"), [("0\n", 1), ("0-3\n", 4), ("0,2-3,8\n", 4), ("0-127\n", 128), ("", 1), ("?", 1)]
)
def test_p1_cores_are_the_machines(kernel: Kernel, text: str, cores: int) -> None:
    kernel.put("sys/devices/system/cpu/online", text)
    assert online_cores(kernel.root) == cores


def test_no_sysfs_is_one_core(tmp_path: Path) -> None:
    assert online_cores(tmp_path) == 1
    assert online_cores() >= len(os.sched_getaffinity(0))


def test_p1_maximum_and_buckets(kernel: Kernel) -> None:
    settings = apply_conntrack_limits(ConntrackLimits(max_per_core=32768, floor=131072), kernel.root)
    assert [str(setting) for setting in settings] == [
        "set net.netfilter.nf_conntrack_max at 262144",
        "set nf_conntrack hashsize at 65536",
    ]
    assert kernel.get(f"{NETFILTER}/nf_conntrack_max") == "262144"
    assert kernel.get("sys/module/nf_conntrack/parameters/hashsize") == "65536"


def test_p1_enough_buckets_are_left_alone(kernel: Kernel) -> None:
    kernel.put("sys/module/nf_conntrack/parameters/hashsize", "65536")
    apply_conntrack_limits(ConntrackLimits(max_per_core=32768), kernel.root)
    assert not kernel.written("sys/module/nf_conntrack/parameters/hashsize")


def test_p1_p2_nothing_asked_nothing_touched(kernel: Kernel) -> None:
    assert apply_conntrack_limits(ConntrackLimits(floor=131072), kernel.root) == []
    assert not any(kernel.written(f"{NETFILTER}/{name}") for name in DEFAULTS)


def test_p2_each_goes_to_its_parameter(kernel: Kernel) -> None:
    limits = ConntrackLimits(
        tcp_established=86400, tcp_close_wait=3600, tcp_be_liberal=True, udp=31, udp_stream=121
    )
    settings = apply_conntrack_limits(limits, kernel.root)
    assert {setting.outcome for setting in settings} == {Outcome.SET}
    assert {name: kernel.get(f"{NETFILTER}/{name}") for name in DEFAULTS} == {
        "nf_conntrack_max": "65536",
        "nf_conntrack_tcp_timeout_established": "86400",
        "nf_conntrack_tcp_timeout_close_wait": "3600",
        "nf_conntrack_tcp_be_liberal": "1",
        "nf_conntrack_udp_timeout": "31",
        "nf_conntrack_udp_timeout_stream": "121",
    }


def test_p2_a_value_that_is_there_is_not_written(kernel: Kernel) -> None:
    settings = apply_conntrack_limits(ConntrackLimits(udp=30, udp_stream=121), kernel.root)
    assert [setting.outcome for setting in settings] == [Outcome.ALREADY, Outcome.SET]
    assert not kernel.written(f"{NETFILTER}/nf_conntrack_udp_timeout")
    assert kernel.written(f"{NETFILTER}/nf_conntrack_udp_timeout_stream")


def test_without_the_module_the_reason_is_told(tmp_path: Path) -> None:
    settings = apply_conntrack_limits(ConntrackLimits(max_per_core=32768, udp=30), tmp_path)
    assert failures(settings) == settings
    assert len(settings) == 3
    assert "is the module nf_conntrack loaded?" in str(settings[0])


def test_p4_oom_score(kernel: Kernel) -> None:
    assert set_oom_score_adj(-999, kernel.root).outcome is Outcome.SET
    assert kernel.get("proc/self/oom_score_adj") == "-999"
    assert set_oom_score_adj(-999, kernel.root).outcome is Outcome.ALREADY


def test_p4_of_a_real_process() -> None:
    code = "from kpng.host.conntrack_limits import *; print(set_oom_score_adj(500)); print(set_oom_score_adj(2000))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    first, second = done.stdout.splitlines()
    assert first == "set oom_score_adj at 500"
    assert second == "cannot set oom_score_adj to 2000: Invalid argument"


def test_names_are_paths() -> None:
    assert sysctl_path("net.ipv4.ip_forward") == Path("/proc/sys/net/ipv4/ip_forward")
    assert ensure_sysctl("net.no.such", 1).reason == "this kernel has no /proc/sys/net/no/such"


@pytest.fixture
def namespace() -> Namespace:
    return Namespace(f"kpt-sysctl-{os.getpid()}")


@pytest.mark.netns
def test_p2_in_a_real_kernel(namespace: Namespace) -> None:
    limits = ConntrackLimits(tcp_established=86399, udp=33, tcp_be_liberal=True)
    with namespace:
        settings = namespace.call(lambda: apply_conntrack_limits(limits))
        if failures(settings):
            pytest.skip(f"no conntrack here: {settings[0]}")
        found = namespace.run("cat", "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established")
        again = namespace.call(lambda: apply_conntrack_limits(limits))
    assert found.strip() == "86399"
    assert {setting.outcome for setting in again} == {Outcome.ALREADY}


@pytest.mark.netns
def test_read_only_proc_is_told(namespace: Namespace) -> None:
    """As in a container without privileges."""
    code = "from kpng.host.sysctl import ensure_sysctl as e; print(e('net.ipv4.conf.all.arp_ignore', 1))"
    read_only = "mount -o bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys"
    script = f'{read_only} && {sys.executable} -c "{code}"'
    with namespace:
        said = namespace.run("unshare", "--mount", "sh", "-c", script)
    assert said.startswith("cannot set net.ipv4.conf.all.arp_ignore to 1: /proc/sys is read-only here")
