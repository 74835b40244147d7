"""The check of endpoint choice: it passes, and it would notice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from kpng.conformance.results import count
from kpng.conformance.topology import Case, CaseExpectation, load_cases, run_cases, wanted_of
from kpng.model import UserError

CASES = load_cases()


def test_all_recorded_cases_pass() -> None:
    results = run_cases(CASES)
    assert len(results) == 128
    assert [result for result in results if result.state != "passed"] == []


def test_each_case_checks_something() -> None:
    asked = [name for case in CASES for name in wanted_of(case)]
    assert asked.count("anywhere") == 128
    assert min(asked.count(name) for name in ("Cluster", "Local", "internal", "external", "short_circuit")) > 20


Change = Callable[[CaseExpectation], CaseExpectation]
WRONG: list[tuple[str, Change]] = [
    ("anywhere", lambda expect: replace(expect, has_any_endpoints=not expect.has_any_endpoints)),
    ("Cluster", lambda expect: replace(expect, cluster_endpoints=("203.0.113.1:80",))),
    ("Local", lambda expect: replace(expect, local_endpoints=("203.0.113.1:80",))),
]


@pytest.mark.parametrize(("name", "change"), WRONG, ids=[name for name, _ in WRONG])
def test_a_wrong_expectation_fails_in_every_case(name: str, change: Change) -> None:
    wrong = [replace(case, expect=change(case.expect)) for case in CASES]
    results = run_cases(wrong)
    assert count(results, "failed") == 128
    assert all(f"{name}: " in result.expected for result in results)
    assert all(result.expected != result.seen for result in results)


def one(**fields: Any) -> Case:
    return replace(next(case for case in CASES if case.expect.cluster_endpoints), **fields)


def test_a_failure_says_only_what_differs() -> None:
    case = one()
    (result,) = run_cases([one(expect=replace(case.expect, has_any_endpoints=False))])
    assert (result.expected, result.seen) == ("anywhere: no", "anywhere: yes")


def test_policies_that_are_never_used_are_not_checked() -> None:
    case = one(expect=CaseExpectation(None, None, has_any_endpoints=True))
    case = replace(case, service=replace(case.service, external_traffic_policy="Cluster"))
    assert wanted_of(case) == {"anywhere": True}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"cases": [{"name": "x"}]}, "at `$.cases[0]`"),
        ({"scenarios": []}, "missing required field `cases`"),
        ({"cases": [{**json.loads('{"name": ""}')}]}, "at `$.cases[0]"),
    ],
)
def test_a_bad_file_is_told(tmp_path: Path, content: object, said: str) -> None:
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        load_cases(str(path))
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
