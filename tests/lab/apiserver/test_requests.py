"""Reading of requests: paths, queries, Accept headers, continue tokens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.lab.apiserver import ApiError
from kpng.lab.apiserver.handlers import Place, parse_path
from kpng.lab.apiserver.options import Continue, flag, number, parse_options
from kpng.lab.apiserver.registry import BY_NAME, ENDPOINT_SLICE, KINDS, NAMESPACE, NODE, POD, SERVICE
from kpng.lab.apiserver.views import media_types


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/api/v1/services", Place(SERVICE, None)),
        ("/api/v1/namespaces/a/services", Place(SERVICE, "a")),
        ("/api/v1/namespaces/a/services/b", Place(SERVICE, "a", "b")),
        ("/api/v1/namespaces/a/services/b/status", Place(SERVICE, "a", "b", "status")),
        ("/api/v1/nodes", Place(NODE, None)),
        ("/api/v1/nodes/n", Place(NODE, None, "n")),
        ("/api/v1/nodes/n/status", Place(NODE, None, "n", "status")),
        ("/api/v1/namespaces", Place(NAMESPACE, None)),
        ("/api/v1/namespaces/a", Place(NAMESPACE, None, "a")),
        ("/api/v1/namespaces/a/status", Place(NAMESPACE, None, "a", "status")),
        ("/api/v1/namespaces/namespaces/pods", Place(POD, "namespaces")),
        ("/api/v1/namespaces/a/pods/status", Place(POD, "a", "status")),
        ("/apis/discovery.k8s.io/v1/endpointslices", Place(ENDPOINT_SLICE, None)),
        ("/apis/discovery.k8s.io/v1/namespaces/a/endpointslices/b", Place(ENDPOINT_SLICE, "a", "b")),
    ],
)
def test_paths(path: str, place: Place) -> None:
    assert parse_path(path) == place


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/api",
        "/api/v1",
        "/api/v2/services",
        "/api/v1/endpointslices",
        "/apis/discovery.k8s.io/v1",
        "/apis/discovery.k8s.io/v1beta1/endpointslices",
        "/apis/discovery.k8s.io/v1/services",
        "/api/v1/services/web",
        "/api/v1/namespaces/a/nodes",
        "/api/v1/namespaces/a/namespaces",
        "/api/v1/namespaces/a/finalize",
        "/api/v1/namespaces/a/services/b/c",
        "/api/v1/namespaces/a/services/b/status/d",
        "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices/b/status",
    ],
)
def test_paths_that_lead_nowhere(path: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_path(path)
    assert (caught.value.code, caught.value.reason) == (404, "NotFound")


@given(st.text(alphabet="/apisv1nmec.", max_size=40))
def test_any_path_is_a_place_or_not_found(path: str) -> None:
    codes = set()
    try:
        parse_path(path)
    except ApiError as error:
        codes.add(error.code)
    assert codes <= {404}


def options(**query: str) -> Any:
    return parse_options(SERVICE, None, query, watch_list=True)


@pytest.mark.parametrize(
    ("query", "field", "value"),
    [
        ({}, "watch", False),
        ({"watch": "true"}, "watch", True),
        ({"watch": "1"}, "watch", True),
        ({"watch": "0"}, "watch", False),
        ({"watch": ""}, "watch", True),
        ({}, "revision", None),
        ({"resourceVersion": ""}, "revision", None),
        ({"resourceVersion": "0"}, "revision", 0),
        ({"resourceVersion": "12"}, "revision", 12),
        ({"limit": "5"}, "limit", 5),
        ({"allowWatchBookmarks": "true"}, "bookmarks", True),
        ({"timeoutSeconds": "7"}, "timeout", 7),
        ({}, "send_initial_events", None),
        (
            {"watch": "1", "sendInitialEvents": "false", "resourceVersionMatch": "NotOlderThan"},
            "send_initial_events",
            False,
        ),
    ],
)
def test_queries(query: dict[str, str], field: str, value: Any) -> None:
    assert getattr(options(**query), field) == value


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ({"watch": "1", "sendInitialEvents": "true"}, ["resourceVersionMatch"]),
        ({"watch": "1", "resourceVersionMatch": "NotOlderThan"}, ["resourceVersionMatch"]),
        ({"sendInitialEvents": "false"}, ["sendInitialEvents"]),
        ({"resourceVersionMatch": "NotOlderThan"}, ["resourceVersionMatch"]),
        ({"resourceVersionMatch": "Exact", "resourceVersion": "0"}, ["resourceVersionMatch"]),
        ({"resourceVersionMatch": "Odd"}, ["resourceVersionMatch", "resourceVersionMatch"]),
        (
            {"resourceVersionMatch": "Exact", "resourceVersion": "1", "continue": Continue(1, ("a", "b")).encode()},
            ["resourceVersionMatch"],
        ),
    ],
)
def test_queries_that_do_not_go_together(query: dict[str, str], fields: list[str]) -> None:
    with pytest.raises(ApiError) as caught:
        options(**query)
    status = caught.value.status()
    assert (status["code"], status["reason"]) == (422, "Invalid")
    assert [cause["field"] for cause in status["details"]["causes"]] == fields


def test_a_watch_without_a_timeout_ends_within_the_hour() -> None:
    ends = {options(watch="1").timeout for _ in range(20)}
    assert all(1800 <= end <= 3600 for end in ends)
    assert len(ends) > 1, "watches of one moment must not end together"


@given(st.integers(0), st.text(), st.text())
def test_continue_tokens_come_back(revision: int, namespace: str, name: str) -> None:
    token = Continue(revision % 2**60, (namespace, name))
    assert Continue.parse(token.encode()) == token


@given(st.text(max_size=20))
def test_other_tokens_are_refused(text: str) -> None:
    with pytest.raises(ApiError, match="continue key is not valid"):
        Continue.parse(text)


@given(st.text(max_size=8))
def test_numbers_are_decimal_or_a_bad_request(text: str) -> None:
    try:
        found = number({"limit": text}, "limit")
    except ApiError:
        assert not text.isdecimal()
    else:
        assert found == (int(text) if text else None)


def test_flags() -> None:
    assert [flag({"x": text}, "x") for text in ("true", "True", "1", "t", "", "false", "0", "no")] == [True] * 5 + [
        False
    ] * 3
    assert not flag({}, "x")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", ["*/*"]),
        ("a/b,c/d", ["a/b", "c/d"]),
        ("a/b;q=0.1, C/D", ["c/d", "a/b"]),
        ("a/b;q=odd,c/d;q=0.9", ["a/b", "c/d"]),
        ("a/b;as=Table;v=v1", ["a/b"]),
    ],
)
def test_media_types_best_first(accept: str, expected: list[str]) -> None:
    assert [name for name, _ in media_types(accept)] == expected


def test_every_kind_is_found_by_what_it_says_of_itself() -> None:
    assert len(BY_NAME) == len(KINDS)
    for kind in KINDS:
        assert BY_NAME[kind.api_version, kind.name] is kind
        assert parse_path(f"{kind.root}/{kind.plural}").kind is kind
