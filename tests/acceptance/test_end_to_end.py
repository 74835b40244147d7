"""Issue 4: from a write to the API server to a packet that the new endpoint answers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kpng.lab.apiserver import ApiServer

pytestmark = [pytest.mark.netns, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
KEYS = {"cold_start_s", "p50_ms", "p99_ms", "api_p50_ms", "api_p99_ms", "rss_mib", "cpu_s"}


def run(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "benchmarks.end_to_end", "--services", "40", "--changes", "6", *words]
    return subprocess.run(
        [*argv, "--json", str(path)], cwd=ROOT, text=True, capture_output=True, check=False, timeout=100
    )


@pytest.mark.parametrize(("words", "more"), [([], set()), (["--brain"], {"brain_rss_mib"})])
def test_new_endpoints_answer(tmp_path: Path, words: list[str], more: set[str]) -> None:
    done = run(tmp_path / "figures.json", *words)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert figures.keys() == KEYS | more
    assert 0 < figures["p50_ms"] <= figures["p99_ms"] < 2000
    assert 0 < figures["cold_start_s"] < 30


async def test_with_an_api_server_of_ones_own(tmp_path: Path) -> None:
    """By a kubeconfig; what the benchmark has made there is gone afterwards."""
    server = ApiServer()
    await server.start()
    config = server.kubeconfig(tmp_path / "config")
    try:
        done = await asyncio.to_thread(run, tmp_path / "figures.json", "--kubeconfig", str(config))
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "figures.json").read_text())["figures"]["p50_ms"] > 0
        assert [server.objects(kind) for kind in ("Service", "EndpointSlice", "Node")] == [[], [], []]
    finally:
        await server.stop()


def test_a_peer_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = run(tmp_path / "figures.json", "--peer-kube-proxy", str(tmp_path / "missing"))
    assert done.returncode == 1
    assert "kube-proxy has ended" in done.stderr
    assert "Traceback" not in done.stderr
