"""The pace at which a client moves that is asked to go again and again."""

from __future__ import annotations

import pytest

from kpng.client.moves import (
    AGAIN_SECONDS,
    FIRST_PAUSE_SECONDS,
    LAST_PAUSE_SECONDS,
    STEADY_SECONDS,
    Moves,
)


def move(moves: Moves, now: float, takes: float = 0.0) -> float:
    """When the next one may be."""
    assert moves.wait(now) <= 0
    moves.attempt(now)
    moves.worked(now + takes)
    return now + takes + moves.wait(now + takes)


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kpng.client.moves.random.uniform", lambda _, most: most)


def test_the_first_move_is_at_once() -> None:
    assert Moves().wait(100.0) <= 0


def test_pauses_grow_to_a_limit() -> None:
    moves, now, pauses = Moves(), 100.0, []
    for _ in range(40):
        due = move(moves, now)
        pauses.append(round(due - now, 6))
        now = due
    assert pauses[:3] == [FIRST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2, FIRST_PAUSE_SECONDS * 4]
    assert set(pauses[5:]) == {LAST_PAUSE_SECONDS}


def test_pauses_grow_also_where_each_move_takes_long() -> None:
    """A session counts from when it was moved to, not from when its connection was made."""
    moves, now = Moves(), 100.0
    for _ in range(10):
        now = move(moves, now, takes=STEADY_SECONDS * 2)
    assert move(moves, now) - now == pytest.approx(LAST_PAUSE_SECONDS)


def test_a_session_that_lasted_ends_it() -> None:
    moves, now = Moves(), 100.0
    for _ in range(10):
        now = move(moves, now)
    now += STEADY_SECONDS - LAST_PAUSE_SECONDS
    assert move(moves, now) - now == pytest.approx(FIRST_PAUSE_SECONDS)


def test_an_attempt_that_failed_is_made_again() -> None:
    moves = Moves()
    moves.attempt(100.0)
    assert moves.wait(100.0) == AGAIN_SECONDS
    assert moves.wait(100.0 + AGAIN_SECONDS) <= 0
