"""The examples of the standards: RFC 6902 (JSON patch), appendix A, and RFC 7386 (merge patch), appendix A."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

from kpng.lab.apiserver import ApiError
from kpng.lab.apiserver.patch import json_patch, merge, same_json

RFC_6902 = [
    (
        "A.1 adding an object member",
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux"}],
        {"baz": "qux", "foo": "bar"},
    ),
    (
        "A.2 adding an array element",
        {"foo": ["bar", "baz"]},
        [{"op": "add", "path": "/foo/1", "value": "qux"}],
        {"foo": ["bar", "qux", "baz"]},
    ),
    (
        "A.3 removing an object member",
        {"baz": "qux", "foo": "bar"},
        [{"op": "remove", "path": "/baz"}],
        {"foo": "bar"},
    ),
    (
        "A.4 removing an array element",
        {"foo": ["bar", "qux", "baz"]},
        [{"op": "remove", "path": "/foo/1"}],
        {"foo": ["bar", "baz"]},
    ),
    (
        "A.5 replacing a value",
        {"baz": "qux", "foo": "bar"},
        [{"op": "replace", "path": "/baz", "value": "boo"}],
        {"baz": "boo", "foo": "bar"},
    ),
    (
        "A.6 moving a value",
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        "A.7 moving an array element",
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    (
        "A.8 testing a value: success",
        {"baz": "qux", "foo": ["a", 2, "c"]},
        [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    (
        "A.10 adding a nested member object",
        {"foo": "bar"},
        [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
        {"foo": "bar", "child": {"grandchild": {}}},
    ),
    (
        "A.11 ignoring unrecognized elements",
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}],
        {"foo": "bar", "baz": "qux"},
    ),
    (
        "A.14 ~ escape ordering",
        {"/": 9, "~1": 10},
        [{"op": "test", "path": "/~01", "value": 10}],
        {"/": 9, "~1": 10},
    ),
    (
        "A.16 adding an array value",
        {"foo": ["bar"]},
        [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
        {"foo": ["bar", ["abc", "def"]]},
    ),
    (
        "4.1 add replaces a member that exists",
        {"foo": 1},
        [{"op": "add", "path": "/foo", "value": None}],
        {"foo": None},
    ),
    (
        "4.1 add with an empty path replaces the document",
        {"foo": 1},
        [{"op": "add", "path": "", "value": {"bar": 2}}],
        {"bar": 2},
    ),
    (
        "4.6 numbers are equal if their values are",
        {"foo": 1},
        [{"op": "test", "path": "/foo", "value": 1.0}],
        {"foo": 1},
    ),
    (
        "5 operations are applied in their order",
        {"a": {}},
        [
            {"op": "add", "path": "/a/b", "value": []},
            {"op": "add", "path": "/a/b/0", "value": 1},
            {"op": "copy", "from": "/a/b", "path": "/c"},
            {"op": "replace", "path": "/a/b/0", "value": 2},
        ],
        {"a": {"b": [2]}, "c": [1]},
    ),
]

RFC_6902_ERRORS = [
    ("A.9 testing a value: error", {"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "bar"}]),
    ("A.12 adding to a nonexistent target", {"foo": "bar"}, [{"op": "add", "path": "/baz/bat", "value": "qux"}]),
    ("A.15 comparing strings and numbers", {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": "10"}]),
    ("4.1 an index past the end", {"foo": [1]}, [{"op": "add", "path": "/foo/3", "value": 2}]),
    ("4.1 an index that is no number", {"foo": [1]}, [{"op": "add", "path": "/foo/x", "value": 2}]),
    ("4.2 removing what is not there", {"foo": 1}, [{"op": "remove", "path": "/bar"}]),
    ("4.2 removing past the end", {"foo": [1]}, [{"op": "remove", "path": "/foo/1"}]),
    ("4.3 replacing what is not there", {"foo": 1}, [{"op": "replace", "path": "/bar", "value": 2}]),
    ("4.4 moving what is not there", {"foo": 1}, [{"op": "move", "from": "/bar", "path": "/baz"}]),
    ("4.5 copying what is not there", {"foo": 1}, [{"op": "copy", "from": "/bar", "path": "/baz"}]),
    ("4 an operation without a path", {"foo": 1}, [{"op": "remove"}]),
    ("4 an unknown operation", {"foo": 1}, [{"op": "spam", "path": "/foo"}]),
    ("4.1 add without a value", {"foo": 1}, [{"op": "add", "path": "/bar"}]),
    ("3 a pointer that does not begin with a slash", {"foo": 1}, [{"op": "remove", "path": "foo"}]),
]


@pytest.mark.parametrize(
    ("title", "document", "operations", "expected"), RFC_6902, ids=lambda value: str(value)[:30]
)
def test_json_patch(title: str, document: Any, operations: Any, expected: Any) -> None:
    before = deepcopy(document)
    assert same_json(json_patch(document, operations), expected), title
    assert document == before, "the document that is patched must stay as it was"


@pytest.mark.parametrize(("title", "document", "operations"), RFC_6902_ERRORS, ids=lambda value: str(value)[:30])
def test_json_patch_errors(title: str, document: Any, operations: Any) -> None:
    before = deepcopy(document)
    with pytest.raises(ApiError) as refused:
        json_patch(document, operations)
    assert (refused.value.code, refused.value.reason) == (422, "Invalid"), title
    assert document == before


def test_a_patch_that_fails_half_way_changes_nothing() -> None:
    document = {"a": {"b": 1}}
    with pytest.raises(ApiError):
        json_patch(document, [{"op": "add", "path": "/a/c", "value": 2}, {"op": "remove", "path": "/x"}])
    assert document == {"a": {"b": 1}}


# Original, patch, result: the table of RFC 7386, appendix A, as it stands there.
RFC_7386 = """
{"a":"b"}              {"a":"c"}                   {"a":"c"}
{"a":"b"}              {"b":"c"}                   {"a":"b","b":"c"}
{"a":"b"}              {"a":null}                  {}
{"a":"b","b":"c"}      {"a":null}                  {"b":"c"}
{"a":["b"]}            {"a":"c"}                   {"a":"c"}
{"a":"c"}              {"a":["b"]}                 {"a":["b"]}
{"a":{"b":"c"}}        {"a":{"b":"d","c":null}}    {"a":{"b":"d"}}
{"a":[{"b":"c"}]}      {"a":[1]}                   {"a":[1]}
["a","b"]              ["c","d"]                   ["c","d"]
{"a":"b"}              ["c"]                       ["c"]
{"a":"foo"}            null                        null
{"a":"foo"}            "bar"                       "bar"
{"e":null}             {"a":1}                     {"e":null,"a":1}
[1,2]                  {"a":"b","c":null}          {"a":"b"}
{}                     {"a":{"bb":{"ccc":null}}}   {"a":{"bb":{}}}
"""


@pytest.mark.parametrize("line", RFC_7386.strip().splitlines())
def test_merge_patch(line: str) -> None:
    original, patch, result = map(json.loads, line.split())
    before = deepcopy(original)
    assert same_json(merge(original, patch), result)
    assert original == before


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, 1, True),
        (1, 1.0, True),
        (True, 1, False),
        (False, 0, False),
        (0, None, False),
        ("1", 1, False),
        ([1, 2], [1, 2], True),
        ([1, 2], [2, 1], False),
        ([True], [1], False),
        ({"a": [{"b": False}]}, {"a": [{"b": 0}]}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": None}, {}, False),
    ],
)
def test_equality_of_json_values(left: Any, right: Any, same: bool) -> None:
    assert same_json(left, right) is same
    assert same_json(right, left) is same
