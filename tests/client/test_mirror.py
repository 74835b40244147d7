"""The mirror of a node's local state: whole rounds in, real differences out. No network."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.client.local_round import LocalRound
from kpng.client.mirror import LocalMirror
from kpng.client.problems import SeenProblems
from kpng.model import ChangeSet, ProblemLog, ServiceKey
from kpng.wire.proto import localv1_pb2 as localv1

WEB = ServiceKey("demo", "web")
SERVICES, ENDPOINTS = localv1.ServicesSet, localv1.EndpointsSet


def a_service(name: str, **fields: Any) -> bytes:
    return localv1.Service(Namespace="demo", Name=name, **fields).SerializeToString()


def an_endpoint(address: str) -> bytes:
    return localv1.Endpoint(IPs=localv1.IPSet(V4=[address])).SerializeToString()


def a_round(*ops: str, whole: bool = False) -> LocalRound:
    """Ops are spelled ``+web``, ``+web:type``, ``+web/pod=10.1.0.1``, ``-web``, ``-web/pod``."""
    collected = LocalRound(SeenProblems(ProblemLog()))
    if whole:
        collected.reset()
    for op in ops:
        sign, text = op[0], op[1:]
        kind = ENDPOINTS if "/" in text else SERVICES
        path, _, address = text.partition("=")
        path, _, service_type = path.partition(":")
        if sign == "-":
            collected.delete(kind, f"demo/{path}")
        elif address:
            collected.set(kind, f"demo/{path}", an_endpoint(address))
        else:
            collected.set(kind, f"demo/{path}", a_service(path, Type=service_type))
    return collected


def spelled(changes: ChangeSet | None) -> dict[str, tuple[list[str] | None, list[str] | None]] | None:
    """Each service's endpoint keys before and after; None where there is no service."""
    if changes is None:
        return None
    return {
        key.name: (
            None if change.old is None else sorted(change.old.endpoints),
            None if change.new is None else sorted(change.new.endpoints),
        )
        for key, change in changes.changes.items()
    }


START = ("+web", "+web/a=10.1.0.1", "+api")

CASES = [
    (["+web/b=10.1.0.2"], {"web": (["a"], ["a", "b"])}),
    (["-web/a"], {"web": (["a"], [])}),
    (["+web/a=10.1.0.9"], {"web": (["a"], ["a"])}),
    (["+web:NodePort"], {"web": (["a"], ["a"])}),
    (["-web/a", "-web"], {"web": (["a"], None)}),
    (["-web"], {"web": (["a"], None)}),
    (["+new", "+new/a=10.1.0.1", "-api"], {"new": (None, ["a"]), "api": ([], None)}),
    (["+web", "+web/a=10.1.0.1"], None),
    (["-other", "-other/x", "-web/x"], None),
    (["+orphan/a=10.1.0.1"], None),
    (["+web/b=10.1.0.2", "-web/b"], None),
    (["-web", "+web"], None),
]


@pytest.mark.parametrize(
    ("ops", "expected"), CASES, ids=lambda case: " ".join(case) if isinstance(case, list) else ""
)
def test_a_later_round(ops: list[str], expected: dict[str, Any] | None) -> None:
    mirror = LocalMirror()
    mirror.apply(a_round(*START, whole=True))
    changes = mirror.apply(a_round(*ops))
    assert spelled(changes) == expected
    assert changes is None or not changes.full


WHOLE_CASES = [
    (START, None),
    (tuple(reversed(START)), None),
    (("+web", "+web/a=10.1.0.1"), {"api": ([], None)}),
    (("+api", "+web"), {"web": (["a"], [])}),
    ((), {"web": (["a"], None), "api": ([], None)}),
    ((*START, "+new"), {"new": (None, [])}),
]


@pytest.mark.parametrize(("ops", "expected"), WHOLE_CASES)
def test_a_whole_state_is_compared_with_what_was_there(
    ops: tuple[str, ...], expected: dict[str, Any] | None
) -> None:
    mirror = LocalMirror()
    mirror.apply(a_round(*START, whole=True))
    changes = mirror.apply(a_round(*ops, whole=True))
    assert spelled(changes) == expected
    assert changes is None or not changes.full


def test_the_first_is_full_even_if_it_is_empty() -> None:
    mirror = LocalMirror()
    assert mirror.apply(a_round(whole=True)) == ChangeSet({}, full=True)
    assert mirror.apply(a_round(whole=True)) is None


def test_a_reset_drops_what_came_before_it_in_the_round() -> None:
    collected = a_round("+web", "+web/a=10.1.0.1")
    collected.reset()
    collected.set(SERVICES, "demo/api", a_service("api"))
    assert spelled(LocalMirror().apply(collected)) == {"api": (None, [])}


def test_what_did_not_change_stays_the_same_object() -> None:
    mirror = LocalMirror()
    mirror.apply(a_round(*START, whole=True))
    before = dict(mirror.state)
    mirror.apply(a_round("+web/b=10.1.0.2", "+api"))
    mirror.apply(a_round(*START, "+web/b=10.1.0.2", whole=True))
    api = ServiceKey("demo", "api")
    assert mirror.state[api] is before[api]
    assert mirror.state[WEB] is not before[WEB]


names = st.sampled_from(["a", "b", "web"])
op_lists = st.lists(
    st.one_of(
        names.map(lambda name: f"+{name}"),
        names.map(lambda name: f"-{name}"),
        st.builds(lambda name, key, host: f"+{name}/{key}=10.1.0.{host}", names, names, st.integers(1, 2)),
        st.builds(lambda name, key: f"-{name}/{key}", names, names),
    ),
    max_size=8,
)


@given(st.lists(st.tuples(op_lists, st.booleans()), max_size=6))
def test_change_sets_add_up_to_the_state(history: list[tuple[list[str], bool]]) -> None:
    mirror, told = LocalMirror(), {}
    for ops, whole in [([], True), *history]:
        before = dict(mirror.state)
        changes = mirror.apply(a_round(*ops, whole=whole))
        for key, change in changes.changes.items() if changes else ():
            assert change.old is before.get(key)
            if change.new:
                told[key] = change.new
            else:
                del told[key]
        assert told == dict(mirror.state)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 13), st.text(max_size=9), st.binary(max_size=60)), max_size=5)
)
def test_no_ops_break_it(ops: list[tuple[bool, int, str, bytes]]) -> None:
    collected = a_round(*START, whole=True)
    for is_set, kind, path, value in ops:
        if is_set:
            collected.set(kind, path, value)
        else:
            collected.delete(kind, path)
    changes = LocalMirror().apply(collected)
    assert changes is not None
    assert all(change.new and change.new.service.key == key for key, change in changes.changes.items())
