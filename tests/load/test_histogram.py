"""Durations are counted to 1 %, in memory that does not grow with them."""

from __future__ import annotations

import math
import random
import statistics
import tracemalloc

import pytest

from kpng.load.histogram import Histogram
from kpng.load.progress import Tally


def test_quantiles_are_right_to_one_percent() -> None:
    chance = random.Random(1)
    durations = [chance.lognormvariate(-5, 1.5) for _ in range(10_000)]
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)
    exact = statistics.quantiles(durations, n=100, method="inclusive")
    assert len(histogram) == len(durations)
    for percent in (1, 25, 50, 90, 99):
        assert histogram.quantile(percent / 100) == pytest.approx(exact[percent - 1], rel=0.01)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.0])
def test_quantiles_of_little(share: float) -> None:
    histogram = Histogram()
    assert (len(histogram), histogram.quantile(share)) == (0, 0.0)
    histogram.add(0.25)
    assert histogram.quantile(share) == pytest.approx(0.25, rel=0.01)


@pytest.mark.parametrize("seconds", [0.0, -1e-9, 1e-9, 1e6])
def test_no_duration_is_too_odd_to_count(seconds: float) -> None:
    histogram = Histogram()
    histogram.add(seconds)
    assert histogram.quantile(0.5) == pytest.approx(max(seconds, 1e-6), rel=0.01)


def test_a_load_of_days_needs_no_more_memory_than_one_of_minutes() -> None:
    tally = Tally()
    durations = [math.exp(-7 + n / 2000) for n in range(20_000)]
    for seconds in durations:
        tally.wrote(seconds)
    tracemalloc.start()
    try:
        for seconds in durations * 10:
            tally.wrote(seconds)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert tally.summary().writes == 220_000
    assert kept < 100_000
