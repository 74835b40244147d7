"""The example plug-in: installed as anybody would, run as anybody would."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PLUGIN = EXAMPLES / "plugin"
STATE = EXAMPLES / "state.yaml"

HOSTS = "10.96.0.10 web.demo.svc\nfd00:96::10 web.demo.svc\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that has the plug-in installed; this virtual environment has not."""
    target = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source") / "plugin"
    subprocess.run(["cp", "-r", PLUGIN, source], check=True)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*install, *options, source], check=True)
    return os.environ | {"PYTHONPATH": str(target)}


def kpng(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "kpng", *map(str, words)]


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_it_is_thirty_lines_or_less() -> None:
    code = (PLUGIN / "src" / "kpng_hosts.py").read_text()
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 30
    assert ast.get_docstring(ast.parse(code))


def test_it_adds_a_command(installed: dict[str, str]) -> None:
    done = run(kpng("local", "--help"), installed)
    assert "to-hosts" in done.stdout
    assert "to-hosts" not in run(kpng("local", "--help"), dict(os.environ)).stdout
    done = run(kpng("file", "to-local", "to-hosts", "--help"), installed)
    assert done.returncode == 0, done.stderr
    assert "hosts(5)" in done.stdout
    assert "--once" in done.stdout


def test_it_writes_the_state_of_the_example_file(installed: dict[str, str], tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    done = run(kpng("file", "-i", STATE, "to-local", "to-hosts", "--once", hosts), installed)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert hosts.read_text() == HOSTS
    assert list(tmp_path.iterdir()) == [hosts]  # nothing half-written is left


def test_it_follows_changes_and_ends_on_a_signal(installed: dict[str, str], tmp_path: Path) -> None:
    hosts, state = tmp_path / "hosts", tmp_path / "state.yaml"
    state.write_text(STATE.read_text())
    command = kpng("file", "-i", state, "to-local", "to-hosts", hosts)
    with subprocess.Popen(command, env=installed, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(hosts, HOSTS)
            new = state.with_name("new")
            new.write_text(STATE.read_text().replace("10.96.0.10", "10.96.0.77"))
            new.replace(state)
            wait_for(hosts, HOSTS.replace("10.96.0.10", "10.96.0.77"))
            process.terminate()
            assert process.wait(2) == 0
        finally:
            process.kill()


def wait_for(path: Path, text: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists() or path.read_text() != text:
        assert time.monotonic() < deadline, f"{path} never became:\n{text}"
        time.sleep(0.02)


UNIT_TEST = """
import asyncio, sys
from pathlib import Path
from kpng.backends import load_backend, run_backend
from kpng.testing import change_set, full_state, local_service, service

async def main():
    web = local_service(service("demo/web", "10.96.0.1"))
    dns = local_service(service("demo/dns", "fd00::1"))
    file = Path(sys.argv[1])
    backend = load_backend("hosts")(file)

    async def changes():
        yield full_state(web)
        await asyncio.sleep(0.05)
        assert file.read_text() == "10.96.0.1 web.demo.svc\\n"
        yield change_set([web], [dns])

    await run_backend(backend, changes())
    assert file.read_text() == "fd00::1 dns.demo.svc\\n"

asyncio.run(main())
"""


def test_its_author_can_test_it_without_a_cluster(installed: dict[str, str], tmp_path: Path) -> None:
    done = run([sys.executable, "-c", UNIT_TEST, str(tmp_path / "hosts")], installed)
    assert done.returncode == 0, done.stderr
