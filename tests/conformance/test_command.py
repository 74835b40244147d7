"""``kpng conformance`` as a user has it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kpng.conformance.flows import load_scenarios
from kpng.conformance.network import PREFIX
from kpng.conformance.run import chosen, progress
from kpng.model import UserError

Make = Callable[..., Any]
COMMAND = [sys.executable, "-m", "kpng", "conformance"]


def conformance(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


def namespaces(pid: int) -> list[str]:
    folder = Path("/run/netns")
    return [name for name in (os.listdir(folder) if folder.exists() else ()) if name == f"{PREFIX}{pid}"]


def test_endpoint_choice_needs_no_rights() -> None:
    done = conformance("topology")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("topology: 128 cases: 128 passed, 0 failed, 0 by design (")


def test_endpoint_choice_for_programs() -> None:
    done = conformance("topology", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"passed": 128, "failed": 0, "by_design": 0, "failures": []}


def test_a_case_that_fails_is_shown_and_is_exit_code_1(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "src" / "kpng" / "conformance" / "data" / "topology_cases.json"
    cases = json.loads(source.read_text())["cases"][:2]
    cases[1]["expect"]["has_any_endpoints"] = not cases[1]["expect"]["has_any_endpoints"]
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"cases": cases}))
    done = conformance("topology", "--data", str(path))
    assert done.returncode == 1
    assert "FAILED: anywhere: " in done.stdout
    assert "1 passed, 1 failed" in done.stdout
    verbose = conformance("topology", "--data", str(path), "--verbose")
    assert verbose.stdout.count("ok: ") == 1


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("topology", "-h")])
def test_help_teaches_by_examples(arguments: tuple[str, ...]) -> None:
    done = conformance(*arguments)
    assert done.returncode == 0
    assert "kpng conformance topology" in done.stdout
    assert "--data FILE" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which backend? --backend NAME, installed: "),
        (("--backend", "nope"), "no backend named 'nope'; installed: "),
        (("--backend", "nft", "--data", "/no/such/file"), "/no/such/file: No such file or directory"),
        (("--backend", "nft", "--data", "/"), "/: Is a directory"),
        (("--backend", "nft", "--only", "no such name"), "--only 'no such name': no scenario"),
        (("topology", "--data", "/no/such/file"), "/no/such/file: No such file or directory"),
    ],
)
def test_what_the_user_can_mend_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = conformance(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"kpng: error: {said}")
    assert done.stderr.count("\n") == 1


def test_scenarios_are_chosen_by_name() -> None:
    scenarios = load_scenarios()
    assert chosen(scenarios, "") == list(scenarios)
    assert {"hairpin" in scenario.name for scenario in chosen(scenarios, "hairpin")} == {True}
    with pytest.raises(UserError):
        chosen([], "")


def test_no_progress_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    tell = progress(3, time.monotonic() - 10)
    tell(1, [])
    assert capsys.readouterr().err == ""


def test_progress_at_a_terminal_ends_with_an_empty_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    tell = progress(2, time.monotonic() - 10)
    tell(1, [])
    assert capsys.readouterr().err == "\r1 of 2 scenarios, 0 flows failed"
    tell(2, [])
    assert capsys.readouterr().err.endswith("\r\x1b[K")
    quick = progress(2, time.monotonic() + 10)
    quick(1, [])
    assert capsys.readouterr().err == ""


@pytest.mark.netns
def test_some_scenarios_for_programs() -> None:
    done = conformance("--backend", "nft", "--only", "hairpin set is keyed", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"passed": 4, "failed": 0, "by_design": 0, "failures": []}
    assert done.stderr == ""


@pytest.mark.netns
def test_a_flow_that_fails_is_exit_code_1(tmp_path: Path, scenario_json: Make, flow_json: Make) -> None:
    flows = [flow_json(), flow_json(name="wrong", expect={"verdict": "drop"})]
    path = tmp_path / "flows.json"
    path.write_text(json.dumps({"scenarios": [scenario_json(flows=flows)]}))
    done = conformance("--backend", "nft", "--data", str(path))
    assert (done.returncode, done.stderr) == (1, "")
    assert "FAILED: dnat 10.1.0.1:8080" in done.stdout
    assert "nft: 2 flows of 1 scenarios: 1 passed, 1 failed, 0 by design" in done.stdout


@pytest.mark.netns
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_nothing_and_has_not_passed(number: signal.Signals) -> None:
    with subprocess.Popen(
        [*COMMAND, "--backend", "nft"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 20
            while not namespaces(process.pid) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert namespaces(process.pid)
            time.sleep(0.5)
            process.send_signal(number)
            out, err = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, out) == (1, "")
    assert err == "kpng conformance: stopped before the end\n"
    assert namespaces(process.pid) == []


@pytest.mark.netns
def test_what_a_killed_run_left_is_removed_by_the_next() -> None:
    with subprocess.Popen([*COMMAND, "--backend", "nft"], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while not namespaces(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    assert namespaces(process.pid)
    assert conformance("--backend", "nft", "--only", "hairpin set is keyed").returncode == 0
    assert namespaces(process.pid) == []
