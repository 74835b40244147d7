from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.kube.backoff import Backoff


class Middle(random.Random):
    """No spread: what is waited is what is meant."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def test_waits_double_up_to_half_a_minute() -> None:
    backoff = Backoff(Middle())
    waits = [backoff.next() for _ in range(12)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30, 30])


def test_success_begins_anew() -> None:
    backoff = Backoff(Middle())
    for _ in range(5):
        backoff.next()
    backoff.reset()
    assert backoff.next() == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("failures", "at_least", "wait"), [(0, 4.0, 5.0), (0, 0.0, 0.1), (9, 5.0, 30.0), (0, 60.0, 75.0)]
)
def test_a_wish_for_longer_is_respected(failures: int, at_least: float, wait: float) -> None:
    backoff = Backoff(Middle())
    for _ in range(failures):
        backoff.next()
    assert backoff.next(at_least) == pytest.approx(wait)


@given(st.integers(0, 2**32), st.integers(0, 20), st.floats(0.1, 60))
def test_nobody_comes_back_before_the_time_asked_for(seed: int, failures: int, at_least: float) -> None:
    backoff = Backoff(random.Random(seed))
    backoff._failures = failures
    assert at_least <= backoff.next(at_least) <= max(45, at_least * 1.5)


def test_those_asked_for_the_same_time_come_back_one_by_one() -> None:
    waits = {round(Backoff(random.Random(seed)).next(10), 1) for seed in range(50)}
    assert len(waits) > 10


@given(st.integers(0, 2**32), st.integers(0, 100_000))
def test_waits_are_spread_and_never_too_long(seed: int, failures: int) -> None:
    backoff = Backoff(random.Random(seed))
    backoff._failures = failures
    assert 0.05 <= backoff.next() <= 45


def test_waits_never_overflow() -> None:
    backoff = Backoff()
    assert max(backoff.next() for _ in range(5000)) <= 45


def test_two_programs_that_failed_together_do_not_try_together() -> None:
    first, second = Backoff(random.Random(1)), Backoff(random.Random(2))
    assert [first.next() for _ in range(5)] != [second.next() for _ in range(5)]
