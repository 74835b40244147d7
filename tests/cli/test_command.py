"""The command as a user has it: a process with arguments, output and an exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "state.yaml"


def kpng(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kpng", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | (env or {}),
        check=False,
    )


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on, and does not outlive the test."""
    command = [sys.executable, "-m", "kpng", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_version() -> None:
    done = kpng("version")
    assert done.returncode == 0
    assert done.stdout.startswith("kpng 0.1.0 (Python 3.")


@pytest.mark.parametrize(
    "command",
    [
        "",
        "file",
        "api",
        "kube",
        "local",
        "proxy",
        "lab",
        "cleanup",
        "completion",
        "file to-api",
        "kube to-file",
        "api to-local",
        "local to-nft",
        "file to-local to-print",
        "kube to-local to-exec",
    ],
)
def test_help_at_every_level_teaches(command: str) -> None:
    done = kpng(*command.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: kpng")
    assert "kpng " in done.stdout.split("Options:")[0].split("\n", 1)[1], "an example is missing"


MISTAKES = {
    "no such command": ("flie to-api", "No such command 'flie'"),
    "no such sink": ("file to-nowhere", "No such command 'to-nowhere'"),
    "no such backend": ("local to-nowhere", "No such command 'to-nowhere'"),
    "nothing after +": ("file -i {state} to-local to-print --once +", "a sink must follow '+'"),
    "no sink": ("file -i {state}", "Missing command"),
    "file missing": ("file -i /nowhere/state.yaml to-local to-print --once", "/nowhere/state.yaml"),
    "bad address": ("file -i {state} to-api --listen gopher://x", "gopher://x"),
    "tls file missing": (
        "local --api-client-tls-ca /nowhere/ca.pem to-print --once",
        "/nowhere/ca.pem",
    ),
    "names without certificates": ("file -i {state} to-api --own-node-only", "--own-node-only needs"),
    "program missing": ("file -i {state} to-local to-exec -- /nowhere/program", "/nowhere/program"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_users_mistake_is_one_line_and_exit_code_2(name: str) -> None:
    words, text = MISTAKES[name]
    done = kpng(*words.format(state=EXAMPLE).split())
    assert done.returncode == 2, done.stderr
    assert text in last_line(done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["broken.yaml", "empty.yaml"])
@pytest.mark.parametrize(
    "sinks", ["to-local to-print --once", "to-local to-print --once + to-local to-exec --once true"]
)
def test_once_does_not_wait_for_a_bad_file(name: str, sinks: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("a: 1\nb: [\n" if name == "broken.yaml" else "")
    done = kpng("file", "-i", str(path), *sinks.split())
    assert done.returncode == 2
    said = f"{path}:3: not valid YAML: " if name == "broken.yaml" else f"{path}: the file is empty"
    assert last_line(done.stderr).startswith(f"kpng: error: {said}")
    assert done.stdout == ""


def test_beside_an_endless_sink_a_bad_file_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "state.yaml"
    path.write_text("")
    words = f"file -i {path} to-local to-print --once + to-file -o {tmp_path}/copy.yaml"
    with running(*words.split()) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert "the file is empty" in process.stderr.readline()
        path.write_text(EXAMPLE.read_text())
        assert process.stdout.readline().startswith("+ service ")
        process.terminate()


def test_file_to_print_once() -> None:
    done = kpng("file", "-i", str(EXAMPLE), "to-local", "to-print", "--once", "-o", "json", "--node-name", "node-a")
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert services
    assert all(service["endpoints"] is not None for service in services)


def test_standard_input_to_two_sinks() -> None:
    text = EXAMPLE.read_text()
    words = "file -i - to-local to-print --once -o yaml + to-local to-print --once -o json"
    done = kpng(*words.split(), stdin=text)
    assert done.returncode == 0, done.stderr
    assert "---\nnode:" in done.stdout
    assert any(line.startswith('{"node"') for line in done.stdout.splitlines())


def test_to_file_round_trip(tmp_path: Path) -> None:
    copy = tmp_path / "copy.yaml"
    with running("file", "-i", str(EXAMPLE), "to-file", "-o", str(copy)) as process:
        deadline = time.monotonic() + 20
        while not copy.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.terminate()
        assert process.wait(5) == 0
    printed = [
        kpng("file", "-i", str(path), "to-local", "to-print", "--once", "-o", "json").stdout
        for path in (EXAMPLE, copy)
    ]
    assert printed[0]
    assert printed[0] == printed[1]


def test_problems_are_named_and_everything_else_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(
        """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec: {clusterIP: 10.96.0.10, ports: [{port: 80}, {name: bad, port: 70000}]}
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: demo}
spec: {clusterIP: 10.96.0.11, ports: [{port: 80}]}
"""
    )
    done = kpng("file", "-i", str(path), "to-local", "to-print", "--once", "-o", "json")
    assert done.returncode == 0
    assert [service["name"] for service in json.loads(done.stdout)["services"]] == ["other", "web"]
    problems = [line for line in done.stderr.splitlines() if "kpng.problems" in line]
    assert len(problems) == 1
    assert "Service demo/web" in problems[0]
    assert "spec.ports[1].port" in problems[0]


def test_json_logs(tmp_path: Path) -> None:
    path = tmp_path / "state.yaml"
    path.write_text("nodes: []\nservices: [{service: {namespace: demo}}]\n")
    done = kpng("--log-format", "json", "file", "-i", str(path), "to-local", "to-print", "--once")
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert any(line["logger"] == "kpng.problems" and line["level"] == "warning" for line in lines)


LONG_RUNNING = {
    "file to-api": "file -i {state} to-api --listen unix://{dir}/s",
    "api to-api, nothing there": "api --api unix://{dir}/none to-api --listen unix://{dir}/s",
    "local, nothing there": "local --api unix://{dir}/none to-print",
    "local, nothing there, tcp": "local --api 127.0.0.1:9 to-print",
    "kube, nothing there": "kube --server http://127.0.0.1:9 to-file -o {dir}/f",
    "to-exec, failing program": "file -i {state} to-local to-exec -- false",
    "to-exec, slow program": "file -i {state} to-local to-exec -- sleep 100",
}


def until_it_heeds_signals(process: subprocess.Popen[str]) -> None:
    """Wait until SIGTERM has a handler (proc(5)): Python comes without one."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        if caught & 1 << signal.SIGTERM - 1:
            return
        time.sleep(0.02)


@pytest.fixture(params=[signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def number(request: pytest.FixtureRequest) -> signal.Signals:
    return signal.Signals(request.param)


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG_RUNNING)
def test_one_signal_ends_it_within_two_seconds(name: str, number: signal.Signals, tmp_path: Path) -> None:
    words = LONG_RUNNING[name].format(state=EXAMPLE, dir=tmp_path).split()
    with running(*words) as process:
        until_it_heeds_signals(process)
        time.sleep(0.3)
        assert process.poll() is None, process.communicate()
        begin = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
    assert time.monotonic() - begin < 2
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_ctrl_c_while_it_starts_is_no_traceback() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "kpng", "local", "to-print"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if line.endswith(" click\n"):
                    break
            process.send_signal(signal.SIGINT)
            errors = process.stderr.read()
            assert process.wait(2) in (-signal.SIGINT, 0)
        finally:
            process.kill()
    assert "Traceback" not in errors
    assert "Aborted" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["to-print", "to-print --once -o json", "to-nft --dry-run"])
def test_a_signal_ends_it_though_nobody_reads_its_output(
    backend: str, number: signal.Signals, tmp_path: Path
) -> None:
    services = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"web-{i}", "namespace": "demo"},
            "spec": {"clusterIP": f"10.96.{i // 256}.{i % 256}", "ports": [{"port": 80}]},
        }
        for i in range(2000)  # more than a pipe takes (64 KiB)
    ]
    (tmp_path / "many.json").write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": services}))
    words = f"--log-level error file -i {tmp_path}/many.json to-local {backend}"
    with running(*words.split()) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        time.sleep(0.3)
        process.send_signal(number)
        assert process.wait(2) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


COMPLETIONS = {
    "kpng k": ["kube"],
    "kpng file -i x to-": ["to-api", "to-file", "to-local"],
    "kpng file -i x to-api + to-l": ["to-local"],
    "kpng file -i x to-api --listen y + to-local to-pr": ["to-print"],
    "kpng local to-": ["to-exec", "to-healthchecks", "to-nft", "to-print"],
    "kpng local to-print --out": ["--output"],
    "kpng cleanup n": ["nft"],
}


@pytest.mark.parametrize("line", COMPLETIONS)
def test_completion(line: str) -> None:
    words = line.split(" ")
    env = {"_KPNG_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = kpng(env=env)
    offered = [entry.split(",", 1)[1] for entry in done.stdout.splitlines()]
    assert offered == COMPLETIONS[line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str) -> None:
    done = kpng("completion", shell)
    assert done.returncode == 0
    assert "_KPNG_COMPLETE" in done.stdout
