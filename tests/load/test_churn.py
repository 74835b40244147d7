"""What happens in time: the writes and the state they lead to say the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kpng.load import KINDS, Change, Churn, Object, Shape, State, endpoint_slices
from kpng.model import UserError

SMALL = Shape(services=20, endpoints=4, nodes=5)

Slices = dict[str, Object]


def by_name(slices: Iterable[Object]) -> Slices:
    return {thing["metadata"]["name"]: thing for thing in slices}


def apply_strictly(slices: Slices, changes: Iterable[Change]) -> None:
    """As an API server does: what exists cannot be created, what does not cannot be changed."""
    for change in changes:
        for write in change.writes:
            name = write.object["metadata"]["name"]
            assert (name in slices) == (write.verb != "create"), (change, name)
            if write.verb == "delete":
                del slices[name]
            else:
                slices[name] = write.object


def ready(slices: Slices, service: str) -> int:
    return sum(
        endpoint["conditions"]["ready"]
        for thing in slices.values()
        for endpoint in thing["endpoints"]
        if thing["metadata"]["labels"]["kubernetes.io/service-name"] == service
    )


@given(
    st.builds(
        Shape,
        services=st.integers(1, 12),
        endpoints=st.integers(0, 7),
        slice_size=st.integers(1, 4),
        dual_stack=st.booleans(),
        nodes=st.integers(1, 4),
    ),
    st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
    st.integers(0, 2**16),
)
@settings(max_examples=60)
def test_the_writes_lead_to_the_state(shape: Shape, kinds: list[str], seed: int) -> None:
    assume(shape.endpoints or {"endpoints", "scale"} & set(kinds))
    churn = Churn(shape, kinds, seed)
    slices = by_name(endpoint_slices(shape))
    apply_strictly(slices, islice(churn, 150))
    assert slices == by_name(churn.endpoint_slices())
    apply_strictly(slices, churn.settle())
    assert slices == by_name(churn.endpoint_slices())
    for thing in slices.values():
        assert all(endpoint["conditions"]["ready"] for endpoint in thing["endpoints"])
        assert len(thing["endpoints"]) <= shape.slice_size


def test_all_kinds_come_and_are_spread_over_the_services() -> None:
    changes = list(islice(Churn(SMALL), 600))
    assert {change.kind for change in changes} == set(KINDS)
    assert {change.service for change in changes} == set(range(SMALL.services))


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_kinds_that_are_asked_for_come(kind: str) -> None:
    assert {change.kind for change in islice(Churn(SMALL, [kind]), 100)} == {kind}


def test_the_same_seed_gives_the_same_changes() -> None:
    assert list(islice(Churn(SMALL, seed=5), 100)) == list(islice(Churn(SMALL, seed=5), 100))
    assert list(islice(Churn(SMALL, seed=5), 100)) != list(islice(Churn(SMALL, seed=6), 100))


def test_a_service_always_has_a_ready_endpoint() -> None:
    churn, slices = Churn(SMALL), by_name(endpoint_slices(SMALL))
    for change in islice(churn, 1000):
        apply_strictly(slices, [change])
        assert ready(slices, SMALL.service_name(change.service)) >= SMALL.endpoints - 1


def test_an_endpoint_is_replaced_by_one_that_was_never_there() -> None:
    churn = Churn(SMALL)
    before = {pod.serial for service in range(SMALL.services) for pod in churn.pods(service)}
    change = churn.replace(3)
    (fresh,) = {pod.serial for pod in churn.pods(3)} - before
    assert fresh >= SMALL.total
    assert [write.verb for write in change.writes] == ["update"]
    assert len(churn.pods(3)) == SMALL.endpoints
    assert SMALL.pod_address(fresh, "IPv4") in str(change.writes[0].object)


def test_a_rolling_update_goes_pod_by_pod() -> None:
    churn = Churn(Shape(services=1, endpoints=2))
    seen: list[Sequence[State]] = []
    for change in churn.roll_out(0):
        assert [write.verb for write in change.writes] == ["update"]
        seen.append([pod.state for pod in churn.pods(0)])
    ready_, starting, terminating = State.READY, State.STARTING, State.TERMINATING
    assert seen[:4] == [
        [ready_, ready_, starting],
        [ready_, ready_, ready_],
        [terminating, ready_, ready_],
        [ready_, ready_],
    ]
    assert len(seen) == 8
    assert [pod.serial for pod in churn.pods(0)] == [2, 3]


def test_scaling_makes_slices_and_takes_them_away() -> None:
    churn = Churn(Shape(services=1, endpoints=3, slice_size=3))
    up = churn.scale(0, 4)
    assert [write.verb for write in up.writes] == ["create", "create"]
    assert [len(write.object["endpoints"]) for write in up.writes] == [3, 1]
    down = churn.scale(0, -4)
    assert [write.verb for write in down.writes] == ["delete", "delete"]
    assert len(churn.pods(0)) == 3


def test_the_last_slice_stays_though_it_is_empty() -> None:
    churn = Churn(Shape(services=1, endpoints=1))
    (write,) = churn.scale(0, -1).writes
    assert write.verb == "update"
    assert write.object["endpoints"] == []


def test_flapping_ends_as_it_began() -> None:
    churn = Churn(SMALL)
    before = churn.pods(2)
    states = []
    for _ in churn.flap(2):
        states.append(sorted(pod.state.name for pod in churn.pods(2)))
    assert states == [["READY", "READY", "READY", "STARTING"], ["READY"] * 4]
    assert churn.pods(2) == before


def test_with_dual_stack_a_change_is_two_writes() -> None:
    change = Churn(Shape(services=1, dual_stack=True)).replace(0)
    assert [write.object["addressType"] for write in change.writes] == ["IPv4", "IPv6"]


def test_addresses_are_used_again_only_when_all_have_been() -> None:
    shape = Shape(services=1, endpoints=1, nodes=1)
    churn, seen = Churn(shape), set()
    for _ in range(shape.places - shape.total):
        churn.replace(0)
        seen.add(shape.pod_address(churn.pods(0)[0].serial, "IPv4"))
    assert len(seen) == shape.places - shape.total
    churn.replace(0)
    assert shape.pod_address(churn.pods(0)[0].serial, "IPv4") in seen


@pytest.mark.parametrize("kind", ["rolling", "flap"])
def test_where_there_are_no_endpoints_nothing_can_happen_to_them(kind: str) -> None:
    with pytest.raises(UserError, match="no endpoints"):
        Churn(Shape(endpoints=0), [kind])
