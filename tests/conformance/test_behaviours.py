"""docs/semantics.md answers for every behaviour of kube-proxy that we know of, and what it names is there."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pytest

from kpng.conformance.flows import for_backend, load_scenarios

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "semantics.md"
HEADING = "## Behaviours, one by one"

HOW_MANY = {
    "A": 24, "B": 10, "C": 8, "D": 12, "E": 12, "F": 5, "G": 7, "H": 11, "I": 10, "J": 5, "K": 6, "L": 11, "M": 10,
    "N": 3, "O": 8, "P": 5, "Q": 14, "R": 4, "S": 13, "T": 8, "U": 11, "V": 3, "X": 20,
}  # fmt: skip
"""The behaviours by section: A what is watched, ..., V what is told; X the defects that are not to be repeated."""
IDS = [f"{section}{number}" for section, count in HOW_MANY.items() for number in range(1, count + 1)]
STATES = ("done", "different", "not applicable", "not yet")


class Row(NamedTuple):
    id: str
    what: str
    state: str
    why: str
    proof: tuple[str, ...]


def rows_in(text: str) -> list[Row]:
    section = text.partition(HEADING)[2].partition("\n## ")[0]
    return [_row(line) for line in section.splitlines() if re.match(r"\| [A-Z][0-9]+ \|", line)]


def _row(line: str) -> Row:
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert len(cells) == 4, line
    state, _, why = cells[2].partition(": ")
    return Row(cells[0], cells[1], state, why, tuple(re.findall(r"`([^`]+)`", cells[3])))


ROWS = rows_in(DOCUMENT.read_text())


@lru_cache
def names_in(path: str) -> frozenset[str]:
    """The names of the tests in a file, also of those in classes."""
    tree = ast.parse((ROOT / "tests" / path).read_text())
    functions = (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(each.name for each in functions if each.name.startswith("test_"))


@lru_cache
def scenarios() -> tuple[str, ...]:
    """Those that the nft backend must pass, or differs in by design."""
    return tuple(scenario.name for scenario in for_backend(load_scenarios(), "nft"))


def fault_of(proof: str) -> str:
    """What is wrong with a proof; "" where it is there."""
    kind, _, wanted = proof.partition(": ")
    if kind == "conformance":
        return "" if any(wanted in name for name in scenarios()) else "no such scenario"
    path, _, name = proof.partition("::")
    if not (ROOT / "tests" / path).is_file():
        return "no such file"
    return "" if name in names_in(path) else "no such test"


def test_no_behaviour_is_missing_and_all_are_in_order() -> None:
    assert [row.id for row in ROWS] == IDS


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_every_answer_is_whole(row: Row) -> None:
    assert row.what
    assert row.state in STATES
    assert row.why or row.state == "done", "why not?"
    assert row.proof or row.state.startswith("not"), "what shows it?"
    assert {proof: fault for proof in row.proof if (fault := fault_of(proof))} == {}


def test_every_defect_has_a_test() -> None:
    assert [row.id for row in ROWS if row.id.startswith("X") and not row.proof] == []


def test_the_counts_are_those_of_the_table() -> None:
    section = DOCUMENT.read_text().partition(HEADING)[2]
    counts = [sum(row.state == state for row in ROWS) for state in STATES]
    stated = re.search(
        r"(\d+) are done, (\d+) different on purpose, (\d+) not applicable, (\d+) not yet done", section
    )
    assert stated is not None
    assert [int(number) for number in stated.groups()] == counts


@pytest.mark.parametrize(
    ("proof", "fault"),
    [
        ("localize/test_choice.py::test_readiness", ""),
        ("backends/nft/test_traffic.py::test_sticks", ""),
        ("localize/test_choice.py::test_nothing_of_the_kind", "no such test"),
        ("localize/test_choice.py", "no such test"),
        ("localize/test_never.py::test_readiness", "no such file"),
        ("conformance: policy matrix", ""),
        ("conformance: a scenario that nobody recorded", "no such scenario"),
    ],
)
def test_what_is_not_there_is_found_out(proof: str, fault: str) -> None:
    assert fault_of(proof) == fault
