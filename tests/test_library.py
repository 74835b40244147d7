"""docs/library.md is true: its examples run, with nothing installed but what `pip install kpng` brings."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kpng.cli import lazy
from kpng.cli.root import root
from kpng.model import UserError

PAGE = Path(__file__).parents[1] / "docs" / "library.md"
EXAMPLES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE.read_text(), re.DOTALL))
OPTIONAL = ("aiohttp", "yaml", "watchfiles", "uvloop")
WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r})); exec(sys.stdin.read())"
"""Runs a program to which these packages are not installed."""


@pytest.fixture(autouse=True)
def logging_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets it up for its whole process, which here is everybody's."""
    monkeypatch.setattr("kpng.cli.root.configure_logging", lambda *_: None)


def test_all_examples_are_known() -> None:
    assert list(EXAMPLES) == ["brain", "read", "mirror", "lines", "fakes"]


@contextmanager
def running(name: str, port: int = 12090) -> Iterator[subprocess.Popen[str]]:
    program = EXAMPLES[name].replace("12090", str(port))
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", WITHOUT], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdin is not None
        process.stdin.write(program)
        process.stdin.close()
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(count)]


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
        return number


def test_a_brain_and_who_reads_it(port: int) -> None:
    with running("brain", port), running("read", port) as reader, running("mirror", port) as mirror:
        assert lines(reader, 1)[0] in ("demo/web has 2 endpoints", "demo/web has 1 endpoints")
        used = lines(mirror, 1)[0]
        assert re.fullmatch(r"use \S+ 10\.1\.0\.[12]", used)


@pytest.mark.parametrize(("name", "said"), [("lines", '"name":"web"'), ("fakes", "as it should be")])
def test_an_example_that_needs_nobody(name: str, said: str) -> None:
    with running(name) as process:
        assert said in lines(process, 1)[0]
        assert process.wait(10) == 0


def test_the_client_is_imported_in_no_time() -> None:
    """No figure, but what it would be made of: neither the brain nor a web server."""
    program = "import sys, kpng; kpng.watch_local; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert "kpng.client" in imported
    assert not {*OPTIONAL, "kpng.server", "kpng.store", "kpng.kube", "kpng.cli"}.intersection(imported)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["kube", "--server", "http://x", "to-api"], "kube"),
        (["local", "to-print"], "local"),
        (["api", "to-file"], "to-file"),
        (["lab"], "kpng"),
    ],
    ids=["kube", "local", "api", "lab"],
)
def test_a_command_without_its_packages_says_what_to_install(words: list[str], what: str) -> None:
    program = f"import sys; sys.argv = {['kpng', *words]!r}; from kpng.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], input=program, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert re.fullmatch(rf"kpng: error: {what} needs the package \w+, .*: pip install 'kpng\[all]'\n", done.stderr)


@pytest.mark.parametrize("words", ["kube to-local to-nft", "kube to-api", "api to-file", "local to-nft"])
def test_the_extra_kube_is_all_that_these_need(words: str) -> None:
    program = "import sys; sys.modules['watchfiles'] = None; from kpng.cli import main; main()"
    command = [sys.executable, "-c", program, *words.split(), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: kpng {words.split(maxsplit=1)[0]}")


def test_a_module_of_ours_that_is_missing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name="kpng.nowhere")

    monkeypatch.setattr(lazy, "import_module", missing)
    with pytest.raises(ModuleNotFoundError):
        root(["kube", "--help"], standalone_mode=False)


def test_help_lists_what_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name="aiohttp")

    monkeypatch.setattr(lazy, "import_module", missing)
    root(["--help"], standalone_mode=False)
    assert re.search(r"kube +Not installed: pip install 'kpng\[all]'", capsys.readouterr().out)
    with pytest.raises(UserError, match="kube needs the package aiohttp"):
        root(["kube", "--anything", "to-api", "--help"], standalone_mode=False)
