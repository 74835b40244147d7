"""Pages of a large cluster: each costs what is on it, whatever else there is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from kpng.lab.apiserver.lists import bounds, page
from kpng.lab.apiserver.options import Continue, parse_options
from kpng.lab.apiserver.registry import SERVICE, Key, Object
from kpng.lab.apiserver.selectors import Selection
from kpng.lab.apiserver.storage import Storage

COUNT = 2000


@dataclass(frozen=True)
class CountingSelection(Selection):
    seen: list[Key] = field(default_factory=list)

    def matches(self, key: Key, thing: Object) -> bool:
        self.seen.append(key)
        return super().matches(key, thing)


@pytest.fixture
def storage() -> Storage:
    filled = Storage(100)
    for index in range(COUNT):
        metadata = {"name": f"s{index:05}", "namespace": f"n{index % 4}"}
        filled.write(SERVICE, {"metadata": metadata})
    return filled


@pytest.mark.parametrize("namespace", [None, "n2"])
@pytest.mark.parametrize("after", [None, ("n2", "s00402")])
def test_a_page_looks_at_its_own_objects_only(storage: Storage, namespace: str | None, after: Key | None) -> None:
    selection = CountingSelection(namespace)
    token = Continue(storage.revision, after) if after else None
    options = parse_options(SERVICE, namespace, {"limit": "50"}, watch_list=True)
    items, metadata = page(storage, SERVICE, replace(options, selection=selection, token=token))
    assert len(items) == 50
    assert len(selection.seen) == 51
    assert metadata["remainingItemCount"] > 0


async def test_pages_of_an_earlier_state_are_worked_out_once(storage: Storage) -> None:
    revision = storage.revision
    storage.write(SERVICE, {"metadata": {"name": "late", "namespace": "n0"}})
    collection = storage.collections[SERVICE]
    first = collection.at(revision)
    storage.write(SERVICE, {"metadata": {"name": "later", "namespace": "n0"}})
    assert collection.at(revision) is first
    assert len(first.keys) == COUNT
    assert len(collection.now.keys) == COUNT + 2


@pytest.mark.parametrize(
    ("namespace", "expected"),
    [(None, (0, 5)), ("a", (0, 2)), ("a-b", (2, 3)), ("b", (3, 5)), ("c", (5, 5)), ("", (0, 0))],
)
def test_where_a_namespace_is(namespace: str | None, expected: tuple[int, int]) -> None:
    keys = [("a", "x"), ("a", "y"), ("a-b", "x"), ("b", "x"), ("b", "y")]
    assert bounds(keys, namespace) == expected
