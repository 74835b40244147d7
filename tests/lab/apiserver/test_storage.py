"""The history: any earlier state can be had again until it is forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.lab.apiserver import ApiError
from kpng.lab.apiserver.registry import SERVICE
from kpng.lab.apiserver.storage import Storage, Stored

STEPS = st.lists(st.tuples(st.sampled_from(["write", "remove"]), st.sampled_from("abc")), max_size=20)


def thing(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}}


def perform(storage: Storage, steps: list[tuple[str, str]]) -> dict[int, dict[tuple[str, str], Stored]]:
    """Carry out the steps; the state after each, by revision."""
    objects = storage.collections[SERVICE].objects
    states = {storage.revision: dict(objects)}
    for action, name in steps:
        if action == "write":
            storage.write(SERVICE, thing(name))
        elif ("default", name) in objects:
            storage.remove(SERVICE, ("default", name))
        states[storage.revision] = dict(objects)
    return states


@given(STEPS, st.integers(1, 25))
def test_every_remembered_state_can_be_had(steps: list[tuple[str, str]], limit: int) -> None:
    storage = Storage(limit)
    states = perform(storage, steps)
    collection = storage.collections[SERVICE]
    for revision, state in states.items():
        if revision < collection.forgotten:
            with pytest.raises(ApiError, match="too old resource version"):
                collection.at(revision)
        else:
            snapshot = collection.at(revision)
            assert snapshot.objects == state
            assert snapshot.keys == sorted(state)
    assert len(collection.history) <= limit


@given(STEPS)
def test_replaying_the_events_gives_the_state(steps: list[tuple[str, str]]) -> None:
    storage = Storage(100)
    perform(storage, steps)
    collection = storage.collections[SERVICE]
    replayed: dict[Any, Stored] = {}
    for event in collection.since(0):
        if event.type == "DELETED":
            assert replayed.pop(event.key) == event.before
        else:
            assert (event.key in replayed) == (event.type == "MODIFIED")
            replayed[event.key] = event.now
        assert event.now.object["metadata"]["resourceVersion"] == str(event.revision)
    assert replayed == collection.objects


@given(STEPS)
def test_observers_see_each_change_from_what_to_what(steps: list[tuple[str, str]]) -> None:
    storage = Storage(100)
    held: dict[str, Any] = {}

    def observe(_kind: object, before: Any, after: Any) -> None:
        name = (after or before)["metadata"]["name"]
        assert held.get(name) == before
        held[name] = after

    storage.observers.append(observe)
    perform(storage, steps)
    assert {name for name, now in held.items() if now} == {name for _, name in storage.collections[SERVICE].objects}
