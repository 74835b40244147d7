"""A table is a mapping like any other, only that old ones stay."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kpng.store.table import BUCKETS, Table

keys = st.integers(0, 3 * BUCKETS)  # integers are their own hashes: many share a bucket
changes = st.dictionaries(keys, st.none() | st.text(max_size=2), max_size=20)


def test_an_empty_table_is_empty() -> None:
    table: Table[str, str] = Table()
    assert len(table) == 0
    assert list(table) == []
    assert table.get("a") is None
    assert table.get("a", "b") == "b"
    assert "a" not in table


@given(st.lists(changes, max_size=8))
def test_it_is_what_a_dictionary_would_be(steps: list[dict[int, str | None]]) -> None:
    truth: dict[int, str] = {}
    table: Table[int, str] = Table()
    tables = [(table, {})]
    for step in steps:
        table = table.updated(step)
        truth = {key: value for key, value in {**truth, **step}.items() if value is not None}
        tables.append((table, truth))
    for kept, expected in tables:
        assert dict(kept) == dict(kept.items()) == expected
        assert len(kept) == len(expected)
        assert all(kept[key] == value and key in kept for key, value in expected.items())
    for old, before in tables:
        for new, after in tables:
            told = new.changed(old)
            differing = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
            assert differing <= set(told)
            assert len(told) == len(set(told))


@given(changes, st.sets(keys))
def test_what_does_not_differ_is_shared(step: dict[int, str | None], touched: set[int]) -> None:
    table: Table[int, str] = Table[int, str]().updated(step)
    assert table.updated({key: table.get(key) for key in touched}) is table
    changed = table.updated(dict.fromkeys(touched, "new"))
    same = [old is new for old, new in zip(table.buckets, changed.buckets, strict=True)]
    assert same.count(False) == len({key % BUCKETS for key in touched})
    assert set(changed.changed(table)) == touched


def test_the_last_entry_of_a_bucket_can_go_and_come_back_in_one_step() -> None:
    table = Table[int, str]().updated({1: "a"})
    assert dict(table.updated({1: None, 1 + BUCKETS: "b"})) == {1 + BUCKETS: "b"}
    assert dict(table.updated({1: None})) == {}
