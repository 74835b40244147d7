"""`python -m kpng.lab.apiserver`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

COMMAND = [sys.executable, "-m", "kpng.lab.apiserver"]
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() or not path.read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_manifests_until_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    manifests, config = tmp_path / "manifests", tmp_path / "config"
    manifests.mkdir()
    (manifests / "a.yaml").write_text(f"---\n{SERVICE}---\n{SERVICE.replace('web', 'api')}")
    (manifests / "notes.txt").write_text("not a manifest")
    argv = [*COMMAND, "--listen", "127.0.0.1:0", "--manifests", manifests, "--write-kubeconfig", config]
    with subprocess.Popen(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            wait_for(config, process)
            kubectl = Path(sys.executable).with_name("kubectl")
            environment = {"HOME": str(tmp_path), "KUBECONFIG": str(config)}
            output = subprocess.check_output([kubectl, "get", "svc", "-o", "name"], text=True, env=environment)
            assert output.split() == ["service/api", "service/web"]
            process.send_signal(number)
            _, log = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 0
    url = yaml.safe_load(config.read_text())["clusters"][0]["cluster"]["server"]
    assert [line.split("INFO ")[1] for line in log.splitlines()] == [
        f"loaded 2 objects from {manifests}",
        f"serving on {url} (lab server: not for production)",
        "stopped",
    ]


@pytest.mark.parametrize(
    ("text", "listen", "message"),
    [
        ("a: [", "127.0.0.1:0", "a.yaml: while parsing"),
        ("kind: Odd", "127.0.0.1:0", 'a.yaml: no matches for kind "Odd"'),
        (SERVICE.replace("80", "0"), "127.0.0.1:0", 'a.yaml: Service "web" is invalid: '),
        (SERVICE, "nonsense", "--listen nonsense: expected HOST:PORT"),
        (SERVICE, "192.0.2.1:1", "cannot listen on 192.0.2.1:1: "),
    ],
)
def test_what_the_user_can_mend_is_one_line(tmp_path: Path, text: str, listen: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    argv = [*COMMAND, "--listen", listen, "--manifests", str(path)]
    done = subprocess.run(argv, text=True, capture_output=True, check=False, timeout=20)
    assert done.returncode == 2
    *_, last = done.stderr.splitlines()
    assert last.startswith("Error: ")
    assert message in last
    assert "Traceback" not in done.stderr


def test_serves_a_shape(tmp_path: Path) -> None:
    config = tmp_path / "config"
    argv = [*COMMAND, "--listen", "127.0.0.1:0", "--shape", "services=3,nodes=2", "--write-kubeconfig", config]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            wait_for(config, process)
            url = yaml.safe_load(config.read_text())["clusters"][0]["cluster"]["server"]
            with urllib.request.urlopen(f"{url}/apis/discovery.k8s.io/v1/endpointslices") as answer:
                slices = json.load(answer)["items"]
        finally:
            process.terminate()
            process.wait(10)
    assert [len(thing["endpoints"]) for thing in slices] == [10, 10, 10]


def test_a_shape_that_is_none_is_one_line() -> None:
    done = subprocess.run(
        [*COMMAND, "--shape", "color=red"], text=True, capture_output=True, check=False, timeout=20
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, "Error: shape 'color=red': unknown color")
