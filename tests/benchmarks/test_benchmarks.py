"""Each benchmark runs, small, and writes the figures that docs/performance.md is made of."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

CASES = {
    "decode": (["--services", "500", "--endpoints", "1"], {"services_per_s", "bytes_per_endpoint"}),
    "localize": (
        ["--services", "200", "--watchers", "50", "--changes", "5"],
        {"services_per_s", "another_node_ms"},
    ),
    "fanout": (
        ["--services", "100", "--watchers", "20", "--changes", "3", "--sweep", "1,5"],
        {"last_p50_ms", "last_p99_ms", "kib_per_watcher", "change_bytes", "last_p50_ms_1", "last_p99_ms_5"},
    ),
    "initial_sync": (
        ["--services", "200", "--watchers", "20", "--times", "2"],
        {"plain_items_per_s", "batched_items_per_s"},
    ),
}


def run(name: str, flags: list[str], path: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", f"benchmarks.{name}", *flags, "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "kpng" in done.stdout
    document: dict[str, Any] = json.loads(path.read_text())
    return document


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_it_writes_its_figures(name: str, tmp_path: Path) -> None:
    flags, keys = CASES[name]
    document = run(name, flags, tmp_path / "figures.json")
    assert document["name"] == name
    assert document["params"]["services"] == int(flags[1])
    assert keys <= document["figures"].keys()
    assert all(value > 0 for key, value in document["figures"].items() if key in keys - {"kib_per_watcher"})


@pytest.mark.slow
def test_plots_are_drawn_of_sweeps(tmp_path: Path) -> None:
    figures = {f"{name}_{n}": n * 0.1 for name in ("last_p50_ms", "change_cpu_ms") for n in (1, 10, 1000)}
    (tmp_path / "fanout.json").write_text(json.dumps({"name": "fanout", "figures": figures}))
    command = ["-m", "benchmarks.plots", str(tmp_path / "fanout.json"), "--images", str(tmp_path)]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
    text = (tmp_path / "watchers.svg").read_text()
    assert "1,000" in text
    assert 'href="http' not in text  # nothing is fetched from anywhere
