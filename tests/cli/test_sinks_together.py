"""Sources, sinks and relays as processes that talk to each other."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "state.yaml"
KPNG = [sys.executable, "-m", "kpng", "--log-level", "error"]


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on, and ends well when asked to."""
    with subprocess.Popen([*KPNG, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
            process.terminate()
            process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0


def output_of(*words: str, stdin: str = "") -> str:
    done = subprocess.run([*KPNG, *words], input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def local_state(*source: str) -> object:
    return json.loads(output_of(*source, "to-print", "--once", "-o", "json", "--node-name", "node-a"))


def until_there(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists()


@pytest.fixture(scope="module")
def expected() -> object:
    return local_state("file", "-i", str(EXAMPLE), "to-local")


@pytest.mark.slow
def test_a_relay_of_a_relay_tells_the_same(expected: object, tmp_path: Path) -> None:
    """The last one is started first, and waits for the others."""
    brain, middle, last = (f"unix://{tmp_path}/{name}" for name in ("brain", "middle", "last"))
    with (
        running("api", "--api", middle, "to-api", "--listen", last),
        running("api", "--api", brain, "to-api", "--listen", middle),
        running("file", "-i", str(EXAMPLE), "to-api", "--listen", brain),
    ):
        assert local_state("local", "--api", last) == expected
        assert local_state("local", "--api", brain) == expected
        assert local_state("api", "--api", middle, "to-local") == expected


@pytest.mark.slow
def test_a_brain_that_also_serves_its_own_node_and_keeps_a_copy(expected: object, tmp_path: Path) -> None:
    copy, sock = tmp_path / "copy.yaml", tmp_path / "s"
    words = f"file -i {EXAMPLE} to-api --listen unix://{sock} + to-file -o {copy} + to-local to-print -o json"
    with running(*words.split()):
        until_there(copy)
        until_there(sock)
        assert local_state("local", "--api", f"unix://{sock}") == expected
    assert local_state("file", "-i", str(copy), "to-local") == expected


@pytest.mark.slow
def test_the_command_ends_when_the_last_sink_has(tmp_path: Path) -> None:
    words = f"file -i {EXAMPLE} to-local to-print --once -o json + to-local to-print --once -o yaml"
    printed = output_of(*words.split(), "+", "to-local", "to-print", "--once")
    assert printed.count('{"node"') == printed.count("---\nnode:") == printed.count("+ service ") == 1


@pytest.mark.slow
def test_one_endless_sink_keeps_the_command_going(tmp_path: Path) -> None:
    copy = tmp_path / "copy.yaml"
    words = f"file -i {EXAMPLE} to-local to-print --once + to-file -o {copy}"
    with running(*words.split()) as process:
        until_there(copy)
        time.sleep(0.3)
        assert process.poll() is None


@pytest.mark.parametrize(
    ("switch", "watch"),
    [
        ("--no-local-api", "local --api {sock} to-print --once"),
        ("--no-globalv1-api", "api --api {sock} to-local to-print --once"),
    ],
)
@pytest.mark.slow
def test_an_api_that_is_switched_off_is_named(switch: str, watch: str, tmp_path: Path) -> None:
    sock = tmp_path / "s"
    with running("file", "-i", str(EXAMPLE), "to-api", "--listen", f"unix://{sock}", switch):
        until_there(sock)
        with running("--log-level", "warning", *watch.format(sock=f"unix://{sock}").split()) as process:
            assert process.stderr is not None
            told = process.stderr.readline()
    assert "UNIMPLEMENTED: unknown method" in told


FILTERED = """
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: demo
  labels: {app: web, team: red, secret: x}
  annotations: {example.com/a: "1", other: "2"}
spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: special, namespace: demo, labels: {service.kubernetes.io/service-proxy-name: other}}
spec: {clusterIP: 10.96.0.11, ports: [{port: 80}]}
"""


@pytest.mark.parametrize(
    ("options", "names", "labels", "annotations"),
    [
        ("", ["web"], None, None),
        ("--with-service-labels app", ["web"], {"app": "web"}, None),
        ("--with-service-labels app,team", ["web"], {"app": "web", "team": "red"}, None),
        ("--with-service-labels app --with-service-labels t*", ["web"], {"app": "web", "team": "red"}, None),
        ("--with-service-annotations example.com/*", ["web"], None, {"example.com/a": "1"}),
        ("--service-proxy-name other", ["special"], None, None),
        ("--service-proxy-name nobody", [], None, None),
    ],
)
def test_the_filters_of_a_file(options: str, names: list[str], labels: object, annotations: object) -> None:
    words = ["file", "-i", "-", *options.split(), "to-local", "to-print", "--once", "-o", "json"]
    services = json.loads(output_of(*words, stdin=FILTERED))["services"]
    assert [service["name"] for service in services] == names
    assert [service.get("labels") for service in services] == [labels] * len(names)
    assert [service.get("annotations") for service in services] == [annotations] * len(names)
