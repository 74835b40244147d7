from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.wire.yaml import YAMLSyntaxError, load_documents
from kpng.wire.yaml.read import resolve_scalar


def load(text: str) -> Any:
    ((_, data),) = load_documents(text)
    return data


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("on", True),
        ("No", False),
        ("y", "y"),
        ("1", 1),
        ("-5", -5),
        ("+7", 7),
        ("0", 0),
        ("010", 8),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b101", 5),
        ("08", 8.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1_000", "1_000"),
        (".nan", ".nan"),
        (".inf", ".inf"),
        ("2001:0:0:1", "2001:0:0:1"),
        ("22:30", "22:30"),
        ("1:2.5", "1:2.5"),
        ("2024-01-31", "2024-01-31"),
        ("10.96.0.10", "10.96.0.10"),
        ("::1", "::1"),
        ("-", "-"),
        (".", "."),
        ("1" * 5000, "1" * 5000),
    ],
)
def test_scalars(text: str, expected: object) -> None:
    found = resolve_scalar(text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: [x, 'y', \"2\"]\n", {"a": 1, "b": ["x", "y", "2"]}),
        ("a: !!str 1\n", {"a": "1"}),
        ("1: a\ntrue: b\n", {"1": "a", "true": "b"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("base: &b {x: 1}\nuse: *b\n", {"base": {"x": 1}, "use": {"x": 1}}),
        ("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\n", {"base": {"x": 1, "y": 2}, "use": {"y": 3, "x": 1}}),
        (
            "a: &a {x: 1}\nb: &b {x: 2, z: 3}\nc: {<<: [*a, *b]}\n",
            {"a": {"x": 1}, "b": {"x": 2, "z": 3}, "c": {"x": 1, "z": 3}},
        ),
        ("'<<': 1\n", {"<<": 1}),
        ("&k a: *k\n", {"a": "a"}),
        ('{"a": [1, null, {"b": "c"}]}', {"a": [1, None, {"b": "c"}]}),
    ],
)
def test_documents(text: str, expected: object) -> None:
    assert load(text) == expected


def test_documents_and_their_lines() -> None:
    text = "# head\n\na: 1\n---\n---\n# nothing\n---\nb: 2\n...\n---\nc\n"
    assert list(load_documents(text)) == [(3, {"a": 1}), (8, {"b": 2}), (11, "c")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "line 2: 'a' is given twice"),
        ("x:\n- {a: 1,\n   a: 2}\n", "line 3: 'a' is given twice"),
        ("a: [1\nb: 2", "line 2: did not find expected ',' or ']'"),
        ("a:\n\t- 1\n", "line 2: found character that cannot start any token"),
        ("a: b: c\n", "line 1: mapping values are not allowed in this context"),
        ("a: *nobody\n", "line 1: alias *nobody stands for nothing that came before"),
        ("a: &a [*a]\n", "line 1: alias *a stands for nothing that came before"),
        ("? [a]\n: b\n", "line 1: a key must be a plain string"),
        ("a: &a [x]\n? *a\n: b\n", "line 2: a key must be a plain string"),
        (
            "a: !!python/object:os.system x\n",
            "line 1: the tag tag:yaml.org,2002:python/object:os.system is not supported",
        ),
        ("a: !secret x\n", "line 1: the tag !secret is not supported"),
        ("a: !mine {b: c}\n", "line 1: the tag !mine is not supported"),
        ("<<: 3\n", "line 1: <<: is for mappings only"),
        ("[" * 100_000, "line 1: nested more than 200 levels deep"),
        ("{a: " * 10_000, "line 1: nested more than 200 levels deep"),
        ("- " * 10_000, "line 1: nested more than 200 levels deep"),
    ],
)
def test_refusals_name_the_line(text: str, message: str) -> None:
    with pytest.raises(YAMLSyntaxError) as caught:
        list(load_documents(text))
    assert str(caught.value) == message


def test_a_billion_laughs() -> None:
    lines = ["a0: &a0 [ha]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    started = time.monotonic()
    with pytest.raises(YAMLSyntaxError, match="aliases stand for more than 1000000 nodes"):
        list(load_documents("\n".join(lines)))
    assert time.monotonic() - started < 1


def test_a_billion_merged_laughs() -> None:
    lines = ["a0: &a0 {x: 1}"] + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 12)]
    with pytest.raises(YAMLSyntaxError, match="aliases stand for more than 1000000 nodes"):
        list(load_documents("\n".join(lines)))


# Beyond the basic plane JSON escapes in two halves (surrogates), which YAML does not know.
PLAIN_TEXT = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | PLAIN_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN_TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_is_yaml(data: object) -> None:
    loaded = [document for _, document in load_documents(json.dumps(data))]
    assert loaded == ([] if data is None else [data])


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@`?,<\n\t 01.~", max_size=60))
def test_any_text_gives_documents_or_a_refusal(text: str) -> None:
    with contextlib.suppress(YAMLSyntaxError):
        for line, data in load_documents(text):
            assert line >= 1
            json.dumps(data)


@given(st.text(max_size=40))
def test_any_unicode_gives_documents_or_a_refusal_of_one_line(text: str) -> None:
    refusal = ""
    try:
        list(load_documents(text))
    except YAMLSyntaxError as error:
        refusal = str(error)
    assert "\n" not in refusal


def test_who_asks_is_told_of_keys_given_twice_and_the_last_one_counts() -> None:
    told: list[tuple[int, str]] = []
    text = "a: 1\nb: {c: 1, c: 2}\na: 3\n"
    documents = list(load_documents(text, lambda line, key: told.append((line, key))))
    assert documents == [(1, {"a": 3, "b": {"c": 2}})]
    assert told == [(2, "c"), (3, "a")]
