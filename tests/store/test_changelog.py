from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kpng.store.changelog import ChangeLog, compare


def test_changes_to_one_key_collapse() -> None:
    log: ChangeLog[str] = ChangeLog()
    for revision in range(1, 1001):
        log.record("a", revision, exists=True)
    log.record("b", 1001, exists=True)
    assert len(log) == 2
    assert log.since(0) == ["b", "a"]
    assert log.since(1000) == ["b"]
    assert log.since(1001) == []


def test_a_deleted_key_is_remembered_as_long_as_there_is_room() -> None:
    log: ChangeLog[str] = ChangeLog(max_tombstones=2)
    for revision, key in enumerate("abc", start=1):
        log.record(key, revision, exists=True)
    log.record("a", 4, exists=False)
    log.record("b", 5, exists=False)
    assert log.since(3) == ["b", "a"]
    log.record("c", 6, exists=False)  # no room for the tombstone of "a", deleted at 4
    assert log.since(3) is None
    assert log.since(4) == ["c", "b"]
    assert len(log) == 2


def test_a_key_that_returns_is_no_tombstone() -> None:
    log: ChangeLog[str] = ChangeLog(max_tombstones=1)
    log.record("a", 1, exists=False)
    log.record("a", 2, exists=True)
    log.record("b", 3, exists=False)
    assert log.since(0) == ["b", "a"]
    log.record("c", 4, exists=False)  # pushes out b, not a
    assert log.since(2) is None
    assert log.since(3) == ["c"]


def test_without_room_for_tombstones_each_delete_sends_readers_to_the_slow_way() -> None:
    log: ChangeLog[str] = ChangeLog(max_tombstones=0)
    log.record("a", 1, exists=True)
    log.record("a", 2, exists=False)
    assert log.since(1) is None
    assert log.since(2) == []
    assert len(log) == 0


def test_the_slow_way_compares_identity() -> None:
    one, same = [1], [1]
    old: dict[str, object] = {"kept": one, "changed": one, "gone": one}
    new: dict[str, object] = {"kept": one, "changed": same, "new": one}
    assert compare(["kept", "changed", "gone", "new"], old.get, new.get) == ["changed", "gone", "new"]


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=60),
    st.integers(0, 4),
)
def test_what_is_told_is_what_happened(events: list[tuple[str, bool]], room: int) -> None:
    log: ChangeLog[str] = ChangeLog(max_tombstones=room)
    last: dict[str, int] = {}
    alive: set[str] = set()
    for revision, (key, exists) in enumerate(events, start=1):
        log.record(key, revision, exists=exists)
        last[key] = revision
        (alive.add if exists else alive.discard)(key)
        assert len(log) <= len(alive) + room
    for revision in range(len(events) + 1):
        told = log.since(revision)
        if told is not None:
            assert set(told) == {key for key, changed in last.items() if changed > revision}
            assert [last[key] for key in told] == sorted((last[key] for key in told), reverse=True)
    assert log.since(len(events)) == []
