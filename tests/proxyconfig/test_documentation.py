"""docs/usage.md tells which fields are not honoured: the table there is ours."""

from __future__ import annotations

from pathlib import Path

from kpng.proxyconfig import answer_table

USAGE = Path(__file__).parents[2] / "docs" / "usage.md"


def test_the_table_is_that_of_the_program() -> None:
    assert answer_table() in USAGE.read_text()
