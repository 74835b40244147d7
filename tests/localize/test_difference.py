"""What is worked out once for many is, for each of them, what would have been worked out for it alone."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpng.localize import Difference, Place, bucket_answers, changes_between, localize
from kpng.model import EndpointInfo, LocalService, ServiceChange, ServiceKey
from kpng.store import Kind, Snapshot, Store
from kpng.testing import endpoint_info, key, service

NODES = ["", "n1", "n2", "n3", "n4"]
ZONES = ["", "za", "zb"]
WEB = key("demo/web")

flags = st.booleans()
one = st.builds(
    endpoint_info,
    st.sampled_from([f"10.1.0.{number}" for number in range(1, 6)]),
    port=st.just("http=8080"),
    pod_name=st.sampled_from(["", "a", "b", "c"]),
    node=st.sampled_from(NODES),
    ready=flags,
    serving=flags,
    terminating=flags,
    zone_hints=st.sampled_from([(), ("za",), ("zb",), ("za", "zb")]),
    node_hints=st.sampled_from([(), (), ("n1",), ("n2", "n4")]),
)
endpoints = st.lists(one, max_size=5)
states = st.tuples(
    st.none()
    | st.builds(
        lambda inside, outside: service(
            "demo/web",
            "10.96.0.1",
            internal_traffic_local=inside,
            external_traffic_local=outside,
            ports="http=80:8080@30080",
        ),
        flags,
        flags,
    ),
    endpoints,
    endpoints,
)


@st.composite
def steps(draw: st.DrawFn) -> tuple[object, object]:
    """A state and the next one, which often has only an endpoint more, less or different."""
    before = draw(states)
    if draw(flags):
        return before, draw(states)
    made, first, second = before
    index = draw(st.integers(0, len(first)))
    changed = [*first[:index], *draw(st.lists(one, max_size=1)), *first[index + 1 :]]
    return before, (made, changed, second)


def snapshots(*contents: tuple[object, list[EndpointInfo], list[EndpointInfo]]) -> list[Snapshot]:
    store = Store()
    found = []
    for made, *slices in contents:
        with store.transaction() as staged:
            staged.replace(*Kind)
            if made is not None:
                staged.set_service(made)  # type: ignore[arg-type]
            for number, infos in enumerate(slices):
                staged.set_source(f"s{number}", WEB, infos)
            staged.set_service(service("demo/other"))
        found.append(store.snapshot)
    return found


def applied(local: LocalService | None, changes: Iterable[tuple[ServiceKey, ServiceChange] | None]) -> object:
    """What a reader has who had this and is told that: what changed is laid over what it has."""
    has = dict(local.endpoints) if local else {}
    found = local.service if local else None
    for each in changes:
        if each and each[0] == WEB:
            change = each[1]
            for name in change.endpoints_deleted():
                has.pop(name)
            has.update(change.endpoints_set())
            if change.new is None:
                found = None
            elif change.service_changed:
                found = change.new.service
    return found, has


def value(local: LocalService | None) -> object:
    return (local.service, dict(local.endpoints)) if local else (None, {})


@settings(max_examples=500, deadline=None)
@given(steps())
def test_each_reader_of_a_view_is_told_what_is_true_for_it(step: tuple[object, object]) -> None:
    old, new = snapshots(*step)  # type: ignore[arg-type]
    difference = Difference.between(old, new)
    for node in NODES:
        for zone in ZONES:
            told = difference.changes(difference.view(node, zone))
            had, has = (Place(snapshot, node, zone).answer(WEB) for snapshot in (old, new))
            assert applied(had, told) == value(has)


@settings(max_examples=200, deadline=None)
@given(states)
def test_the_shared_answers_and_ones_own_make_the_whole(state: object) -> None:
    (snapshot,) = snapshots(state)  # type: ignore[arg-type]
    for node in NODES:
        for zone in ZONES:
            for bucket in snapshot.services.buckets:
                answers = bucket_answers(bucket)
                seen = zone if zone in answers.zones else ""
                for found, each in answers.answers.items():
                    own = dict(answers.own(node, seen))
                    change = own.get(found)
                    has = applied(each.shared(seen), [(WEB, change)] if change and found == WEB else [])
                    if found == WEB:
                        assert has == value(localize(snapshot.services[WEB], node, zone))


@settings(max_examples=200, deadline=None)
@given(states)
def test_ones_own_answer_is_made_of_the_shared_one(state: object) -> None:
    """The short way (`Answers.for_node`) against the long one, which looks at every endpoint."""
    (snapshot,) = snapshots(state)  # type: ignore[arg-type]
    record = snapshot.services.get(WEB)
    if record is None or record.service is None:
        return
    for node in NODES[1:]:
        for zone in ZONES:
            bucket = bucket_answers(snapshot.services.buckets[hash(WEB) % 256])
            answers = bucket.answers[WEB]
            long = answers._endpoints(answers._all(), node, zone)
            assert dict(answers.for_node(node, zone).endpoints) == dict(long)


def test_of_a_thousand_hosts_one_is_told_something_of_its_own() -> None:
    many = [endpoint_info(f"10.1.{n >> 8}.{n & 255}", pod_name=f"p{n}", node=f"n{n}") for n in range(1000)]
    moved = [*many[:-1], endpoint_info("10.1.9.9", pod_name="new", node="n7")]
    web = service("demo/web")
    old, new = snapshots((web, many, []), (web, moved, []))
    difference = Difference.between(old, new)
    views = {difference.view(f"n{number}", "za") for number in range(1001)}
    assert views == {("", ""), ("n999", ""), ("n7", "")}


def test_a_zone_that_no_hint_names_makes_no_difference() -> None:
    hinted = [endpoint_info("10.1.0.1", zone_hints=("za",)), endpoint_info("10.1.0.2", zone_hints=("zb",))]
    web = service("demo/web")
    old, new = snapshots((web, [], []), (web, hinted, []))
    difference = Difference.between(old, new)
    assert [difference.view("", zone) for zone in ("za", "zc", "")] == [("", "za"), ("", ""), ("", "")]


@pytest.mark.parametrize(("then", "now", "looked_at"), [("n1", "n1", 1), ("n1", "n2", 2)])
def test_who_becomes_another_has_everything_looked_at(then: str, now: str, looked_at: int) -> None:
    web = service("demo/web")
    old, new = snapshots((web, [], []), (web, [endpoint_info("10.1.0.1")], []))
    found = list(changes_between(Place(old, then), Place(new, now)))
    assert len(found) == looked_at
    assert [each[0] for each in found if each] == [WEB]


def test_a_host_is_told_apart_where_its_own_endpoint_comes_into_use_by_what_others_do() -> None:
    """n2's endpoint is as it was, but now it is used, as nothing is ready any more; and to n2 it is a local one."""
    web = service("demo/web")
    leaving = endpoint_info("10.1.0.2", pod_name="b", node="n2", ready=False, serving=True, terminating=True)
    first = endpoint_info("10.1.0.1", pod_name="a", node="n1")
    old, new = snapshots((web, [first], [leaving]), (web, [], [leaving]))
    difference = Difference.between(old, new)
    assert difference.view("n2", "") == ("n2", "")
    told = dict(filter(None, difference.changes(("n2", ""))))[WEB].new
    assert told is not None
    assert told.endpoints["b"].local
