"""The command where little can be relied on: no rights, no UTF-8, no reader, no disk, no standard output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "state.yaml"
KPNG = f"{sys.executable} -m kpng"
ONCE = f"{KPNG} file -i {EXAMPLE} to-local to-print --once --node-name node-a"

UMLAUTS = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo, labels: {greeting: "grüß dich"}}
spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}
"""


def shell(line: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A line for bash; the exit code is that of the first command of a pipe."""
    return subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | env,
    )


def complaint(errors: str) -> str:
    """The one line that is not a log line."""
    (line,) = [line for line in errors.splitlines() if line.startswith("kpng: error: ")]
    return line.removeprefix("kpng: error: ")


@pytest.mark.parametrize(
    "sinks", ["to-local to-nft", "to-local to-nft + to-file -o -", "to-file -o - + to-local to-nft"]
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_to_nft_without_root_is_one_line(sinks: str) -> None:
    done = shell(f"setpriv --reuid=65534 --clear-groups {KPNG} file -i {EXAMPLE} {sinks}")
    assert done.returncode == 2, done.stderr
    assert complaint(done.stderr) == "to-nft needs root (CAP_NET_ADMIN); --dry-run does not"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("output", ["text", "json", "yaml"])
def test_a_locale_without_utf8_loses_nothing(output: str, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(UMLAUTS, encoding="utf-8")
    done = shell(
        f"{KPNG} file -i {tmp_path}/web.yaml --with-service-labels '*' to-local to-print --once -o {output}",
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
    )
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
    if output == "json":
        (service,) = json.loads(done.stdout)["services"]
        assert service["labels"] == {"greeting": "grüß dich"}


PRINTING = {
    "version": "version",
    "help": "--help",
    "help of a sink": "file to-api --help",
    "completion": "completion bash",
    "a line": "lab status --name nowhere",
    "to-print": "file -i {state} to-local to-print --once",
    "to-print as JSON": "file -i {state} to-local to-print --once -o json",
    "to-nft --dry-run": "file -i {state} to-local to-nft --dry-run --once",
    "to-file": "file -i {state} to-file -o -",
    "two sinks": "file -i {state} to-file -o - + to-local to-print",
}
"""Everything that writes to standard output."""


@pytest.mark.parametrize("name", PRINTING)
def test_a_full_disk_is_named(name: str) -> None:
    done = shell(f"{KPNG} --log-level error {PRINTING[name].format(state=EXAMPLE)} > /dev/full")
    assert done.returncode == 2
    assert done.stderr == "kpng: error: standard output: cannot write: No space left on device\n"


@pytest.mark.parametrize("name", PRINTING)
def test_a_reader_that_went_away_ends_it_quietly(name: str) -> None:
    done = shell(f"{KPNG} --log-level error {PRINTING[name].format(state=EXAMPLE)} | true")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_has_seen_enough() -> None:
    done = shell(f"{ONCE} --output yaml | head -1")
    assert (done.returncode, done.stdout) == (0, "---\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_files_that_are_closed(closed: str, tmp_path: Path) -> None:
    """No socket may take their place: libuv aborts the process on such a one."""
    copy = tmp_path / "copy.yaml"
    done = shell(f"timeout 30 {ONCE} {closed}; code=$?; echo $code > {copy}")
    assert copy.read_text() == "0\n", done.stderr


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("nodes: [\n", "standard input:2"),
        ("a: b: c\n", "standard input:1"),
        ("", "standard input: the file is empty"),
        ("services: []\nservices: []\n", "standard input:2"),
        ("{" * 500, "standard input:1"),
        ("\\xff\\xfe\\xfd", "standard input:1: not UTF-8 text"),
        ("a: &x [*x]\n", "standard input:1"),
    ],
)
def test_broken_standard_input_is_a_users_mistake(broken: str, reason: str) -> None:
    done = shell(f"printf '{broken}' | {KPNG} file -i - to-file -o -; PIPESTATUS=(${{PIPESTATUS[1]}})")
    assert complaint(done.stderr).startswith(reason)
    assert "Traceback" not in done.stderr


def test_the_home_folder_may_be_missing() -> None:
    assert shell(ONCE, HOME="/nowhere").returncode == 0


def test_the_working_folder_may_be_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = shell(f"cd {gone}; rmdir {gone}; {ONCE}", PYTHONPATH=str(ROOT / "src"))
    assert done.returncode == 0, done.stderr
