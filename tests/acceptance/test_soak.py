"""Issue 4: churn with faults ends with the kernel as a fresh start would have it, and nobody notices on the way.

The soak of 30 minutes is ``python -m benchmarks.soak``; this is the same for less than one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
FAULTS = {
    "api_server_killed",
    "ruleset_flushed",
    "agent_killed",
    "streams_cut",
    "brain_killed",
    "tables_deleted",
}


def test_churn_with_faults(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    argv = [
        sys.executable,
        "-m",
        "benchmarks.soak",
        "--minutes",
        "0.6",
        "--fault-every",
        "2.5",
        "--services",
        "200",
    ]
    done = subprocess.run(
        [*argv, "--json", str(path)], cwd=ROOT, text=True, capture_output=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(path.read_text())["figures"]
    assert (figures["equal"], figures["equal_killed"], figures["equal_spared"]) == (1, 1, 1)
    assert figures["compared"] > 200 * 5 + 900, "the large service is among them"
    assert "grew" not in done.stderr, "so short a run only warms up"
    assert all(figures[f"faults_{fault}"] >= 1 for fault in FAULTS)
    assert figures["changes"] > 300
    assert figures["refused"] == 0
    assert figures["requests"] > 500
    assert figures["failed"] == 0, done.stderr
    assert {name for name in figures if name.startswith("rss_growth_percent_")} == {
        f"rss_growth_percent_{process}-{side}" for process in ("brain", "agent") for side in ("killed", "spared")
    }


def test_leaves_nothing_behind(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "benchmarks.soak", "--minutes", "5", "--services", "20"]
    with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()  # it is under way
        process.terminate()
        said = process.stderr.read()
    assert process.returncode == 1
    assert said.splitlines()[-1] == "stopped"
    assert not [name for name in os.listdir("/run/netns") if str(process.pid) in name]
