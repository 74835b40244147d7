from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kpng.model import ChangeSet, LocalService, ServiceChange, ServiceKey
from kpng.testing import change_set, endpoint, full_state, local_service, service

A = endpoint("10.1.0.1")
B = endpoint("10.1.0.2")
WEB = service("demo/web", "10.96.0.10")

State = dict[ServiceKey, LocalService]


def test_a_new_service_sets_all_its_endpoints_in_key_order() -> None:
    change = ServiceChange(None, local_service(WEB, b=B, a=A))
    assert change.service_changed
    assert list(change.endpoints_set()) == [("a", A), ("b", B)]
    assert list(change.endpoints_deleted()) == []


def test_a_deleted_service_deletes_its_endpoints_last_key_first() -> None:
    change = ServiceChange(local_service(WEB, a=A, b=B), None)
    assert not change.service_changed
    assert list(change.endpoints_set()) == []
    assert list(change.endpoints_deleted()) == ["b", "a"]


def test_only_what_differs_is_set() -> None:
    moved = endpoint("10.1.0.3")
    change = ServiceChange(local_service(WEB, a=A, b=B, c=B), local_service(WEB, a=A, b=moved, d=A))
    assert not change.service_changed
    assert list(change.endpoints_set()) == [("b", moved), ("d", A)]
    assert list(change.endpoints_deleted()) == ["c"]


def test_a_service_that_differs_says_so() -> None:
    other = service("demo/web", "10.96.0.11")
    change = ServiceChange(local_service(WEB, a=A), local_service(other, a=A))
    assert change.service_changed
    assert change.differs
    assert list(change.endpoints_set()) == []


def test_equal_answers_are_different_objects_and_no_difference() -> None:
    one, same = local_service(WEB, a=A), local_service(WEB, a=A)
    assert one != same
    assert not ServiceChange(one, same).differs
    assert not ServiceChange(None, None).differs


def test_a_service_that_came_and_went_falls_out() -> None:
    web = local_service(WEB, A)
    come, go = change_set(new=[web]), change_set(old=[web])
    assert come.then(go).changes == {}
    assert full_state(web).then(go) == ChangeSet({}, full=True)


def test_a_service_that_went_and_came_back_as_it_was_falls_out() -> None:
    web, again = local_service(WEB, A), local_service(WEB, A)
    assert change_set(old=[web]).then(change_set(new=[again])).changes == {}


def test_a_service_that_came_back_different_is_a_change_from_the_first_state() -> None:
    web, other = local_service(WEB, A), local_service(WEB, B)
    merged = change_set(old=[web]).then(change_set(new=[other]))
    assert merged.changes == {WEB.key: ServiceChange(web, other)}


def test_a_later_full_state_stands_alone() -> None:
    full = full_state(local_service(WEB, A))
    assert full_state(local_service(service("demo/old"), B)).then(full) is full


def test_merging_leaves_both_sides_as_they_were() -> None:
    web, other = local_service(WEB, A), local_service(WEB, B)
    first, second = full_state(web), change_set([web], [other])
    first.then(second)
    assert first == full_state(web)
    assert list(second.changes) == [WEB.key]


# -- applying one after the other, or both at once ----------------------------------------------------

_NAMES = ("web", "dns", "db")
_ENDPOINTS = st.lists(st.sampled_from([A, B, endpoint("fd00::1")]), max_size=2)


@st.composite
def local_states(draw: st.DrawFn) -> State:
    state = {}
    for name in draw(st.sets(st.sampled_from(_NAMES))):
        of = service(f"demo/{name}", draw(st.sampled_from(["10.96.0.1", "10.96.0.2"])))
        state[of.key] = local_service(of, *draw(_ENDPOINTS))
    return state


def applied(state: State, changes: ChangeSet) -> State:
    """Apply as a strict backend would: it knows what it has, and the change set must know it too."""
    after = {} if changes.full else dict(state)
    for key, change in changes.changes.items():
        assert (change.old is None) == (key not in after)
        assert change.differs
        if change.new is None:
            del after[key]
        else:
            after[key] = change.new
    return after


def as_values(state: State) -> dict[ServiceKey, object]:
    return {key: (local.service, dict(local.endpoints)) for key, local in state.items()}


@given(st.lists(local_states(), min_size=3, max_size=6), st.booleans(), st.integers(0, 3))
def test_merged_change_sets_do_what_they_do_one_by_one(states: list[State], full: bool, at: int) -> None:
    start: State = {} if full else states[0]
    steps = [
        change_set(old.values(), new.values()) for old, new in zip([start, *states[1:]], states[1:], strict=False)
    ]
    if full:
        steps[0] = full_state(*states[1].values())
    merged = steps[0]
    for step in steps[1:]:
        merged = merged.then(step)
    assert merged.full == full
    assert as_values(applied(start, merged)) == as_values(states[-1])

    cut = min(at, len(steps) - 1)
    left, right = steps[0], steps[cut]
    for step in steps[1:cut]:
        left = left.then(step)
    for step in steps[cut + 1 :]:
        right = right.then(step)
    if cut:
        assert as_values(applied(start, left.then(right))) == as_values(states[-1])
