from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.kube.lines import LineSplitter, LineTooLongError


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line and line)), st.data())
def test_lines_survive_any_cutting(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    splitter, found = LineSplitter(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += splitter.feed(stream[:cut])
        stream = stream[cut:]
    assert found == lines


def test_an_unfinished_line_is_kept_back() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"one\ntw") == [b"one"]
    assert splitter.feed(b"") == []
    assert splitter.feed(b"o\n\n\nthree") == [b"two"]
    assert splitter.feed(b"\n") == [b"three"]


def test_a_line_of_megabytes() -> None:
    splitter = LineSplitter()
    for _ in range(100):
        assert splitter.feed(b"x" * 65536) == []
    (line,) = splitter.feed(b"\n")
    assert len(line) == 100 * 65536


def test_what_is_no_line_at_all_is_refused() -> None:
    splitter = LineSplitter(max_line=100)
    splitter.feed(b"x" * 100)
    with pytest.raises(LineTooLongError, match="a line of more than 100 bytes"):
        splitter.feed(b"x")
