"""The benchmark runs, says what it measured, and sees no write on a restart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.parametrize("layout", ["1.36", "endpoint-chains"])
def test_nft_commit(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "figures.json"
    size = ["--services", "60", "--endpoints", "3", "--changes", "20", "--peer-layout", layout, "--json", str(path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.nft_commit", *size],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "replace_p50_ms" in done.stdout
    found = json.loads(path.read_text())
    assert found["name"] == "nft_commit"
    assert found["params"] | {"peer_layout": layout, "services": 60, "endpoints": 3} == found["params"]
    ours, peer = found["figures"]["kpng"], found["figures"]["kube_proxy_layout"]
    assert ours["restart_writes"] == 0
    assert 0 < ours["replace_kernel_p50_ms"] < ours["replace_p50_ms"] < peer["replace_p50_ms"]
