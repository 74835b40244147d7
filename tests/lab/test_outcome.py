"""The checks that turn what came back into a verdict: each must be able to say no."""

from __future__ import annotations

import pytest

from kpng.lab.outcome import (
    Check,
    Outcome,
    all_answered,
    all_end_as,
    describe_errors,
    faster_than,
    hits_exactly,
    hits_one,
    hits_several,
    judge,
    never_saw_itself,
    same_each_round,
    saw_clients,
)
from kpng.lab.probes import REFUSED, TIMEOUT, Reply, Tally


def tally(*pods: str, client: str = "c", errors: tuple[str, ...] = (), seconds: float = 0.001) -> Tally:
    good = [Reply(at=index, seconds=seconds, pod=pod, client=client) for index, pod in enumerate(pods)]
    return Tally(good + [Reply(at=9, seconds=seconds, error=error) for error in errors])


GOOD = [
    (all_answered, tally("a", "b")),
    (all_end_as(REFUSED), tally(errors=(REFUSED, REFUSED))),
    (hits_exactly("a", "b"), tally("b", "a", "a")),
    (hits_one, tally("a", "a")),
    (hits_several, tally("a", "b")),
    (saw_clients("c"), tally("a", "b")),
    (never_saw_itself("a", "c"), tally("b", client="c")),
    (never_saw_itself("a", "c"), tally("a", client="d")),
    (same_each_round(2), tally("a", "b", "a", "b")),
    (faster_than(10), tally("a", seconds=0.009)),
    (faster_than(10), tally(errors=(REFUSED,), seconds=0.009)),
]

BAD = [
    (all_answered, tally("a", errors=(TIMEOUT,)), "1 of 2 requests failed (1 timeout)"),
    (all_answered, tally(), "0 of 0 requests failed"),
    (all_end_as(REFUSED), tally("a", errors=(REFUSED,)), "got 1 answers, 1 refused"),
    (all_end_as(REFUSED), tally(errors=(TIMEOUT,)), "1 timeout"),
    (all_end_as(REFUSED), tally(), "no errors"),
    (hits_exactly("a", "b"), tally("a"), "never answered: b"),
    (hits_exactly("a"), tally("a", "b"), "must not have answered: b"),
    (hits_exactly("a", "b"), tally("b", "c"), "never answered: a; must not have answered: c"),
    (hits_one, tally("a", "b"), "['a', 'b']"),
    (hits_one, tally(), "[]"),
    (hits_several, tally("a", "a"), "['a']"),
    (saw_clients("x"), tally("a"), "['c'], expected ['x']"),
    (never_saw_itself("a", "c"), tally("a", client="c"), "own address c"),
    (same_each_round(2), tally("a", "b", "b", "b"), "1 requests went to another"),
    (faster_than(10), tally("a", seconds=0.02), "took 20 ms, expected less than 10 ms"),
    (faster_than(10), tally(), "took 0 ms"),
]


@pytest.mark.parametrize(("check", "seen"), GOOD)
def test_what_is_as_it_should_be_passes(check: Check, seen: Tally) -> None:
    assert check(seen) == ""


@pytest.mark.parametrize(("check", "seen", "says"), BAD)
def test_what_is_wrong_is_named(check: Check, seen: Tally, says: str) -> None:
    assert says in check(seen)


def test_judge_names_everything_that_is_wrong() -> None:
    seen = tally("a", errors=(TIMEOUT,))
    assert len(judge(seen, (all_answered, hits_exactly("b"), hits_one))) == 2
    assert judge(seen, ()) == ()


def test_an_outcome_passes_without_problems() -> None:
    assert Outcome("t", "a", "b", tally("a")).passed
    assert not Outcome("t", "a", "b", tally("a"), problems=("no",)).passed


def test_errors_are_described_most_common_first() -> None:
    assert describe_errors(tally(errors=(TIMEOUT, REFUSED, REFUSED))) == "2 refused, 1 timeout"
    assert describe_errors(tally("a")) == "no errors"
