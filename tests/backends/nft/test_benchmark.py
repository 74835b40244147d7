"""The benchmark runs, says what it measured, and sees no write on a restart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


def measured(tmp_path: Path, name: str, *flags: str) -> dict[str, Any]:
    path = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *flags, "--json", str(path)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "p50_ms" in done.stdout
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.netns
@pytest.mark.slow
def test_everything_beside_kube_proxys_layouts(tmp_path: Path) -> None:
    sizes = {"services": 60, "endpoints": 3, "changes": 20, "rate": 50, "seconds": 2, "peer_services": 60}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in sizes.items()]
    found = measured(tmp_path, "agent", *flags)
    assert found["name"] == "agent"
    assert found["params"] | sizes == found["params"]
    ours, peers = found["figures"], found["peers"]
    assert ours["cold_start_commits"] == 1
    assert ours["restart_writes"] == 0
    assert 0 < ours["rolling_commits"] <= ours["rolling_events"]
    assert 0 < ours["churn_p50_ms"] <= ours["churn_p99_ms"]
    assert 0 < ours["change_kernel_p50_ms"] < ours["change_p50_ms"]
    assert len(peers) == 2
    assert all(ours["peers_size_change_p50_ms"] < peer["peers_size_change_p50_ms"] for peer in peers.values())


@pytest.mark.netns
@pytest.mark.slow
def test_several_sizes(tmp_path: Path) -> None:
    found = measured(tmp_path, "agent", "--sweep", "20,40", "--endpoints", "2", "--changes", "20")
    swept = {f"{name}_{size}" for name in ("cold_start_s", "change_p50_ms") for size in (20, 40)}
    assert swept <= found["figures"].keys()


@pytest.mark.netns
@pytest.mark.slow
def test_sets_with_and_without_a_size(tmp_path: Path) -> None:
    found = measured(tmp_path, "nft_sets", "--elements", "2000")
    assert found["figures"].keys() == found["peers"]["growing"].keys()
    assert all(found["figures"].values())


@pytest.mark.netns
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_leaves_nothing_behind(number: signal.Signals) -> None:
    argv = [sys.executable, "-m", "benchmarks.agent", "--services", "50", "--seconds", "60"]
    with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()  # it is under way
        process.send_signal(number)
        said = process.stderr.read()
    assert process.returncode == 1
    assert said.splitlines()[-1] == "stopped"
    assert not [name for name in os.listdir("/run/netns") if str(process.pid) in name]
