from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kpng.wire.yaml import load_documents, write_yaml


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, ""),
        ({"a": None, "b": True, "c": 7}, "a: null\nb: true\nc: 7\n"),
        ({"a": [], "b": {}, "c": [1, 2], "d": {"x": "y"}}, 'a: []\nb: {}\nc: [1, 2]\nd: {x: "y"}\n'),
        ({"a": {"b": {"c": 1}}}, "a:\n  b: {c: 1}\n"),
        ({"a": [{"b": [1], "c": 2}, 3, [4, [5]]]}, "a:\n- b: [1]\n  c: 2\n- 3\n- - 4\n  - [5]\n"),
        (
            {"ip": "10.1.0.5", "net": "10.0.0.0/8", "six": "fd00::1"},
            'ip: 10.1.0.5\nnet: 10.0.0.0/8\nsix: "fd00::1"\n',
        ),
    ],
)
def test_the_form(data: dict[str, Any], text: str) -> None:
    assert write_yaml(data) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "0x1",
        "1e3",
        "1.2.3",
        "true",
        "Yes",
        "off",
        "y",
        "N",
        "null",
        "~",
        "-",
        "a: b",
        "a #b",
        "- a",
        "[a",
        "é",
        "a\nb",
        "\t",
        "\x7f",
        "\x85",
        "\u2028",
        "\ufeff",
        "𐀀",
        '"',
        "'",
        "\\",
        "2024-01-31",
        "22:30",
        "=",
        "<<",
        "*a",
        "&a",
        "!a",
        " a ",
        "x" * 500,
    ],
)
def test_strings_stay_strings_for_any_parser(text: str) -> None:
    written = write_yaml({"k": text, "list": [text], text: "v"})
    ((_, ours),) = load_documents(written)
    assert ours == {"k": text, "list": [text], text: "v"}
    assert yaml.safe_load(written) == ours


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=6), values, min_size=1, max_size=4))
def test_what_is_written_reads_back_the_same(data: dict[str, Any]) -> None:
    ((_, ours),) = load_documents(write_yaml(data))
    assert ours == data
