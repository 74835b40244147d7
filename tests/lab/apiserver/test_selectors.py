"""The grammar of selectors, against a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.lab.apiserver import ApiError
from kpng.lab.apiserver.registry import POD, SERVICE
from kpng.lab.apiserver.selectors import Selection, field_value, parse_fields, parse_labels

KEYS = st.sampled_from(["a", "b", "app.kubernetes.io/name", "in", "notin"])
VALUES = st.sampled_from(["", "x", "y-1", "3", "12", "in"])
LABELS = st.dictionaries(KEYS, VALUES)
Labels = Mapping[str, str]
Term = tuple[str, Callable[[Labels], bool]]


def number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


@st.composite
def terms(draw: st.DrawFn) -> Term:
    """A term as text, and what it means."""
    key, value = draw(KEYS), draw(VALUES)
    values = draw(st.lists(VALUES, min_size=1, max_size=3))
    blank = draw(st.sampled_from(["", " "]))
    limit = draw(st.integers(0, 20))
    listed = f"({blank}{f'{blank},{blank}'.join(values)}{blank})"

    def less(labels: Labels) -> bool:
        found = number(labels.get(key))
        return found is not None and found < limit

    choices: list[Term] = [
        (key, lambda labels: key in labels),
        (f"!{blank}{key}", lambda labels: key not in labels),
        (f"{key}{blank}={blank}{value}", lambda labels: labels.get(key) == value),
        (f"{key}=={value}", lambda labels: labels.get(key) == value),
        (f"{key}{blank}!={value}", lambda labels: labels.get(key) != value),
        (f"{key} in {listed}", lambda labels: labels.get(key) in values),
        (f"{key} notin{blank}{listed}", lambda labels: labels.get(key) not in values),
        (f"{key}<{limit}", less),
    ]
    return draw(st.sampled_from(choices))


@given(st.lists(terms(), max_size=4), LABELS)
def test_label_selectors_mean_what_the_model_says(parts: list[Term], labels: Labels) -> None:
    parsed = parse_labels(",".join(text for text, _ in parts))
    assert len(parsed) == len(parts)
    assert all(term.matches(labels) for term in parsed) == all(meaning(labels) for _, meaning in parts)


@given(st.text(alphabet="ab=!<>(), in/-.3", max_size=12))
def test_any_text_is_a_selector_or_a_bad_request(text: str) -> None:
    codes = set()
    try:
        parse_labels(text)
    except ApiError as error:
        codes.add(error.code)
    assert codes <= {400}


@pytest.mark.parametrize(
    "text",
    ["=a", "a=b=c", "a in", "a in b", "a in (b", "a in (b c)", "a,,b", "!", "a>b", "a b", "-a", "a=-", "(a)"],
)
def test_bad_label_selectors(text: str) -> None:
    with pytest.raises(ApiError, match="unable to parse requirement"):
        parse_labels(text)


@pytest.mark.parametrize(
    ("text", "terms_"),
    [
        ("", []),
        ("metadata.name=a", [("metadata.name", True, "a")]),
        ("metadata.name==a,spec.nodeName!=b", [("metadata.name", True, "a"), ("spec.nodeName", False, "b")]),
        (r"metadata.name=a\,b\=c", [("metadata.name", True, "a,b=c")]),
        ("spec.nodeName=", [("spec.nodeName", True, "")]),
    ],
)
def test_field_selectors(text: str, terms_: list[tuple[str, bool, str]]) -> None:
    assert parse_fields(POD, text) == terms_


@pytest.mark.parametrize(
    "text", ["metadata.name", "=a", "spec.nodeName=a", "metadata.labels=a", "metadata.name=a=b"]
)
def test_bad_field_selectors(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_fields(SERVICE, text)
    assert caught.value.code == 400


def test_missing_fields_and_booleans() -> None:
    assert field_value({"spec": {"unschedulable": True}}, "spec.unschedulable") == "true"
    assert field_value({"spec": {}}, "spec.unschedulable") == "false"
    assert field_value({"spec": None}, "spec.nodeName") == ""


def test_a_namespace_restricts() -> None:
    selection = Selection.parse(SERVICE, "a", "", "")
    assert selection.matches(("a", "x"), {"metadata": {}})
    assert not selection.matches(("b", "x"), {"metadata": {}})
