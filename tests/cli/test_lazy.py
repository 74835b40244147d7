"""What a command does not need is not imported: an agent starts faster, and is smaller."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from kpng.cli.root import root

NEEDLESS = {
    ("kube", "to-local", "to-nft"): ("kpng.server", "kpng.lab", "kpng.client", "kpng.load"),
    ("local", "to-nft"): ("kpng.server", "kpng.lab", "kpng.kube", "kpng.load", "kpng.sources"),
    ("kube", "to-api"): ("kpng.backends.nft", "kpng.lab", "kpng.client", "kpng.load"),
}


@pytest.mark.parametrize("words", NEEDLESS, ids=" ".join)
def test_imports_nothing_needless(words: tuple[str, ...]) -> None:
    program = (
        "import sys; from kpng.cli.root import root; "
        f"root({[*words, '--help']!r}, standalone_mode=False); print(*sys.modules, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(done.stdout.splitlines())
    assert "kpng.model" in imported
    assert imported.isdisjoint(NEEDLESS[words])


def test_all_are_listed_and_exist() -> None:
    context = click.Context(root)
    names = root.list_commands(context)
    assert names[:2] == ["kube", "file"]
    assert "cleanup" in names
    for name in names:
        found = root.get_command(context, name)
        assert found is not None
        assert found.name == name


def test_sinks_come_after_every_source() -> None:
    context = click.Context(root)
    for name in ("kube", "file", "api"):
        source = root.get_command(context, name)
        assert isinstance(source, click.Group)
        assert source.list_commands(context) == ["to-api", "to-file", "to-local"]


def test_what_is_no_command_is_none() -> None:
    assert root.get_command(click.Context(root), "sinks") is None
