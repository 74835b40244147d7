"""What the benchmarks share."""

from __future__ import annotations

import pytest
from benchmarks.fanout import worst
from benchmarks.harness import parser, spread

NUMBERS = ["--services", "10", "--endpoints", "2", "--watchers", "3"]


def test_one_command_runs_all_benchmarks() -> None:
    """Flags that mean nothing to one are taken, and neither shown nor told as what it was run with."""
    flags = parser("Sets.", elements=5)
    assert vars(flags.parse_args(NUMBERS)) == {"elements": 5, "json": None}
    assert "--watchers" not in flags.format_help()


def test_flags_that_mean_something_are_shown_and_kept() -> None:
    flags = parser("Rounds.", services=7, watchers=8, peer_changes=9)
    assert vars(flags.parse_args(NUMBERS[2:])) == {"services": 7, "watchers": 3, "peer_changes": 9, "json": None}
    assert "--watchers" in flags.format_help()


@pytest.mark.parametrize(
    ("seconds", "p50", "p99"),
    [
        ([0.001] * 99 + [1.0], 1.0, 10.99),  # the one that is far out is no 99th percentile of a hundred
        ([n / 1000 for n in range(101)], 50.0, 99.0),
        ([0.002], 2.0, 2.0),
    ],
)
def test_percentiles_are_of_what_was_measured(seconds: list[float], p50: float, p99: float) -> None:
    assert spread("x", seconds) == {"x_p50_ms": pytest.approx(p50), "x_p99_ms": pytest.approx(p99)}


def test_the_worst_changes_are_told_by_their_number() -> None:
    assert worst([0.5, 0.01, 0.02, 0.04]) == "the worst: no. 1 500.0 ms, no. 4 40.0 ms, no. 3 20.0 ms"
    assert worst([0.001]) == "the worst: no. 1 1.0 ms"
