"""Durations as Go writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.proxyconfig import Duration

SECOND = 1_000_000_000

READ = {
    "0": 0,
    "0s": 0,
    "-0": 0,
    "5s": 5 * SECOND,
    "+5s": 5 * SECOND,
    "-5s": -5 * SECOND,
    "1h30m": 5400 * SECOND,
    "1h0m0s": 3600 * SECOND,
    "1.5s": 1_500_000_000,
    ".5s": 500_000_000,
    "1.s": SECOND,
    "100ms": 100_000_000,
    "3us": 3_000,
    "3µs": 3_000,
    "3μs": 3_000,
    "7ns": 7,
    "1m1ms": 60 * SECOND + 1_000_000,
    "0.1ns": 0,
    "2s1s": 3 * SECOND,
}


@pytest.mark.parametrize("text", READ)
def test_read(text: str) -> None:
    assert Duration.parse(text).nanoseconds == READ[text]


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", ".s", "-", "+", "5 s", "5s ", "1d", "1h-5m", "five", "--5s", "1e3s", "9999999999h", "５s"],
)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        Duration.parse(text)


WRITTEN = {
    0: "0s",
    1: "1ns",
    1_100: "1.1µs",
    2_200_000: "2.2ms",
    3_300_000_000: "3.3s",
    5 * SECOND: "5s",
    60 * SECOND: "1m0s",
    245 * SECOND: "4m5s",
    245 * SECOND + 1_000_000: "4m5.001s",
    3600 * SECOND: "1h0m0s",
    -90 * SECOND: "-1m30s",
    24 * 3600 * SECOND: "24h0m0s",
}


@pytest.mark.parametrize("nanoseconds", WRITTEN)
def test_written_as_go_does(nanoseconds: int) -> None:
    assert str(Duration(nanoseconds)) == WRITTEN[nanoseconds]


@given(st.integers(-(1 << 62), 1 << 62))
def test_what_is_written_reads_back(nanoseconds: int) -> None:
    assert Duration.parse(str(Duration(nanoseconds))).nanoseconds == nanoseconds


@given(st.text(max_size=12))
def test_no_text_does_more_than_refuse(text: str) -> None:
    try:
        read = Duration.parse(text)
    except ValueError:
        return
    assert Duration.parse(str(read)) == read


def test_a_value_like_others() -> None:
    assert Duration(1) < Duration(2) <= Duration(2)
    assert len({Duration(1), Duration(1)}) == 1
    assert Duration(1) != 1
    assert not Duration()
    assert Duration.seconds_of(1.5).seconds == 1.5
    with pytest.raises(AttributeError):
        Duration(1).nanoseconds = 2
