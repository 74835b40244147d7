from __future__ import annotations

import logging

import pytest

from kpng.model import InvalidObjectError, Problem, ProblemLog

BAD_IP = Problem("Service demo/web", "spec.clusterIP", "'x' is not an IP address", origin="state.yaml")
BAD_PORT = Problem("Service demo/web", "spec.ports[0].port", "70000 is not a port")


def test_a_problem_is_one_line_that_names_origin_object_and_field() -> None:
    assert str(BAD_IP) == "state.yaml: Service demo/web: spec.clusterIP: 'x' is not an IP address"
    assert str(Problem("Service demo/web", "", "has no name")) == "Service demo/web: has no name"


def test_a_failed_check_carries_its_field() -> None:
    error = InvalidObjectError("spec.clusterIP", "wrong")
    assert (error.field, error.message, str(error)) == ("spec.clusterIP", "wrong", "spec.clusterIP: wrong")
    assert str(InvalidObjectError("", "wrong")) == "wrong"


def test_a_problem_is_logged_when_it_appears_and_never_again_while_it_lasts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    problems = ProblemLog()
    for _ in range(3):
        problems.report("a", [BAD_IP])
    problems.report("a", [BAD_IP, BAD_PORT])
    assert [record.getMessage() for record in caplog.records] == [str(BAD_IP), str(BAD_PORT)]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert problems.current == [BAD_IP, BAD_PORT]
    assert (len(problems), problems.total) == (2, 2)


def test_a_mended_problem_is_forgotten_and_counts_again_when_it_returns(
    caplog: pytest.LogCaptureFixture,
) -> None:
    problems = ProblemLog()
    problems.report("a", [BAD_IP])
    problems.report("a", [])
    assert (len(problems), problems.current, problems.total) == (0, [], 1)
    problems.report("a", iter([BAD_IP]))
    assert (len(problems), problems.total, len(caplog.records)) == (1, 2, 2)


def test_reports_of_different_subjects_stand_side_by_side() -> None:
    problems = ProblemLog()
    problems.report("a", [BAD_IP])
    problems.report("audit a", [BAD_PORT])
    problems.report("a", [])
    assert problems.current == [BAD_PORT]


def test_mending_what_was_never_broken_is_nothing() -> None:
    problems = ProblemLog()
    problems.report("a", [])
    assert (len(problems), problems.total) == (0, 0)


def test_what_became_of_a_problem_is_told_by_the_logger_that_told_the_problem(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    problems = ProblemLog()
    problems.report("a", [BAD_IP, BAD_PORT])
    caplog.clear()
    problems.report("a", [BAD_PORT])
    problems.report("a", [])
    assert caplog.record_tuples == [
        ("kpng.problems", logging.INFO, f"mended or gone: {BAD_IP}"),
        ("kpng.problems", logging.INFO, f"mended or gone: {BAD_PORT}"),
    ]
