"""The command ``kpng lab``."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from kpng.cli.lab import lab


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ("--keep", "--nodes", "--output", "kpng lab down", "status")),
        (["down"], ("kpng lab down", "--name")),
        (["status"], ("kpng lab status",)),
    ],
)
def test_help_teaches_with_examples(arguments: list[str], words: tuple[str, ...]) -> None:
    said = CliRunner().invoke(lab, [*arguments, "--help"])
    assert said.exit_code == 0
    assert all(word in said.output for word in words)


@pytest.mark.parametrize(
    "arguments", [["--nodes", "7"], ["--output", "xml"], ["--unknown"], ["up"], ["down", "--nodes", "2"]]
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(lab, arguments).exit_code == 2


@pytest.mark.netns
def test_down_says_what_it_removed(lab_name: str) -> None:
    said = CliRunner().invoke(lab, ["down", "--name", lab_name])
    assert (said.exit_code, said.output) == (0, "ended 0 processes, removed 0 network namespaces\n")


def test_status_of_a_lab_that_is_not(lab_name: str) -> None:
    said = CliRunner().invoke(lab, ["status", "--name", lab_name])
    assert (said.exit_code, said.output) == (0, f"no lab named '{lab_name}'\n")


@pytest.mark.parametrize("command", ["status --name {0}", "--name {0} status", "--name other status --name {0}"])
def test_the_nearest_name_counts(command: str, lab_name: str) -> None:
    said = CliRunner().invoke(lab, command.format(lab_name).split())
    assert (said.exit_code, said.output) == (0, f"no lab named '{lab_name}'\n")


def test_a_name_that_is_empty_is_not_the_default() -> None:
    assert CliRunner().invoke(lab, ["--name", "", "status"]).exit_code == 1
