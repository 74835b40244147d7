"""A round by batches says the same as a round by single ops, and bad objects are named in the same words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kpng.client.conversation import Plain
from kpng.client.local_round import LocalRound
from kpng.client.mirror import LocalMirror
from kpng.client.problems import SeenProblems
from kpng.model import Endpoint, EndpointPort, IPSet, LocalService, PortMapping, ProblemLog, Protocol, ServiceChange
from kpng.server.local_frames import change_frames, round_buffers
from kpng.testing import endpoint, key, local_service, service
from kpng.wire.batch import ServiceDelta, encode_deltas, services_batches
from kpng.wire.batch_decode import decode_batch, decode_services
from kpng.wire.grpc import MessageReader

WEB = key("demo/web")
Changes = dict[str, ServiceChange]


class Watcher:
    """A mirror and its problems."""

    def __init__(self) -> None:
        self.problems = ProblemLog()
        self.seen = SeenProblems(self.problems)
        self.mirror = LocalMirror()

    def new_round(self, *, whole: bool) -> LocalRound:
        collected = LocalRound(self.seen)
        if whole:
            collected.reset()
        return collected

    def take(self, collected: LocalRound) -> None:
        self.mirror.apply(collected)

    def take_deltas(self, *deltas: ServiceDelta, whole: bool = False) -> None:
        collected = self.new_round(whole=whole)
        collected.add(deltas)
        self.take(collected)

    @property
    def state(self) -> dict[str, Any]:
        return {str(name): (each.service, dict(each.endpoints)) for name, each in self.mirror.state.items()}

    @property
    def faults(self) -> set[str]:
        return {str(problem) for problem in self.problems.current}


def by_ops(watcher: Watcher, changes: Changes, *, whole: bool = False) -> None:
    plain = Plain("", b"", lambda: watcher.new_round(whole=whole))
    collected = plain.new_round()
    frames = (change_frames(key(name), change) for name, change in changes.items())
    for message in MessageReader().feed(b"".join(round_buffers(frames))):
        plain.collect(message, collected)
    watcher.take(collected)


def by_batches(watcher: Watcher, changes: Changes, *, whole: bool = False) -> None:
    items = [item for name, change in changes.items() for item in encode_deltas(key(name), change)]
    collected = watcher.new_round(whole=whole)
    for message in MessageReader().feed(services_batches(items)):
        collected.add(decode_services(decode_batch(message)))
    watcher.take(collected)


def between(old: dict[str, LocalService], new: dict[str, LocalService]) -> Changes:
    changes = {name: ServiceChange(old.get(name), new.get(name)) for name in old | new}
    return {name: change for name, change in changes.items() if change.differs}


# -- the same state ------------------------------------------------------------------------------------------

pods = st.builds(endpoint, st.sampled_from(["10.1.0.1", "10.1.0.2", "fd00::1"]), port=st.sampled_from([80, 81]))
# of one address, a second answer; one that no endpoint may have, and one that is none
bad_pods = st.sampled_from(["127.0.0.1", "nonsense"]).map(lambda a: Endpoint(addresses=IPSet((a,))))
rows = st.dictionaries(
    st.sampled_from(["pod-1", "pod-2", "0123456789abcdef"]), st.one_of(pods, bad_pods), max_size=3
)
kinds = st.sampled_from(["ClusterIP", "NodePort", "a bad one"])


@st.composite
def states(draw: st.DrawFn) -> dict[str, LocalService]:
    names = draw(st.sets(st.sampled_from(["demo/web", "demo/api", "demo/db"])))
    return {name: LocalService(service(name, type=draw(kinds)), draw(rows)) for name in sorted(names)}


@given(st.lists(st.tuples(states(), st.booleans()), min_size=1, max_size=5))
def test_both_ways_lead_to_the_same_state_and_the_same_problems(history: list[tuple[Any, bool]]) -> None:
    ops, batches = Watcher(), Watcher()
    before: dict[str, LocalService] = {}
    for number, (after, anew) in enumerate(history):
        whole = anew or number == 0
        changes = between({} if whole else before, after)
        by_ops(ops, changes, whole=whole)
        by_batches(batches, changes, whole=whole)
        assert batches.state == ops.state
        assert batches.faults == ops.faults
        before = after


# -- bad objects ---------------------------------------------------------------------------------------------

POD = endpoint("10.1.0.1", port="http=8080")
BAD_PODS = {
    "an address": replace(POD, addresses=IPSet(("10.1.0.1", "10.1.0.999"))),
    "every address": replace(POD, addresses=IPSet(("127.0.0.1",))),
    "a port": replace(POD, ports=(EndpointPort("http", 80), EndpointPort("http", 0))),
    "every port": replace(POD, ports=(EndpointPort("", 70000),)),
    "a hostname": replace(POD, hostname="; rm -rf /"),
    "not canonical": replace(POD, addresses=IPSet(("10.1.0.02",))),
    "an open port": replace(POD, ports=(EndpointPort("http", 8080, Protocol.UNKNOWN),)),
}
SERVICE = service("demo/web", "10.96.0.1", ports="http=80:8080/UDP")
BAD_SERVICES = {
    "an address": replace(SERVICE, cluster_ips=IPSet(("10.96.0.1", "x"))),
    "a port": replace(SERVICE, ports=(PortMapping(port=0), PortMapping(port=80))),
    "a protocol that is not told": replace(SERVICE, ports=(PortMapping(port=80, protocol=Protocol.UNKNOWN),)),
    "ranges": replace(SERVICE, source_ranges=("nothing",), load_balancer_ips=IPSet(("192.0.2.1",))),
    "a type": replace(SERVICE, type="; drop"),
    "health check": replace(SERVICE, health_check_node_port=70000),
    "another name": replace(SERVICE, name="api"),
    "an impossible name": replace(SERVICE, name="../etc"),
}


def both(changes: Changes) -> tuple[Watcher, Watcher]:
    ops, batches = Watcher(), Watcher()
    by_ops(ops, changes, whole=True)
    by_batches(batches, changes, whole=True)
    return ops, batches


@pytest.mark.parametrize("name", BAD_PODS)
def test_bad_endpoints_cost_and_are_named_as_in_single_ops(name: str) -> None:
    web = LocalService(SERVICE, {"good": POD, "odd": BAD_PODS[name]})
    api = local_service(service("demo/api"), x=endpoint("10.1.9.9"))
    ops, batches = both({"demo/web": ServiceChange(None, web), "demo/api": ServiceChange(None, api)})
    assert (batches.state, batches.faults) == (ops.state, ops.faults)
    assert batches.state["demo/web"][1]["good"] == POD
    assert batches.state["demo/api"][1] == api.endpoints


@pytest.mark.parametrize("name", BAD_SERVICES)
def test_bad_services_cost_and_are_named_as_in_single_ops(name: str) -> None:
    web = LocalService(BAD_SERVICES[name], {"good": POD})
    ops, batches = both({"demo/web": ServiceChange(None, web)})
    assert (batches.state, batches.faults) == (ops.state, ops.faults)


def one(**fields: Any) -> ServiceDelta:
    return ServiceDelta(**({"namespace": "demo", "name": "web", "service": SERVICE} | fields))


NO_OPS: dict[str, tuple[ServiceDelta, str]] = {
    "a path": (one(name="../etc", service=None), "Service demo/../etc: not a path of a service"),
    "an endpoint's path": (
        one(endpoints={"a b": POD}),
        "Endpoint demo/web/a b: not a path of an endpoint",
    ),
    "a number no message holds": (
        one(service=replace(SERVICE, session_affinity_seconds=1 << 40)),
        "Service demo/web: ",
    ),
}


@pytest.mark.parametrize("name", NO_OPS)
def test_what_a_single_op_could_not_even_say(name: str) -> None:
    delta, fault = NO_OPS[name]
    watcher = Watcher()
    watcher.take_deltas(delta, one(name="ok", service=service("demo/ok"), endpoints={"a": POD}), whole=True)
    assert watcher.state["demo/ok"][1] == {"a": POD}
    if name != "a path":  # an unusable path is nothing to do, until it comes with something
        assert [told for told in watcher.faults if told.startswith(fault)]


def test_a_bad_path_with_something_is_named() -> None:
    watcher = Watcher()
    watcher.take_deltas(one(name="../etc", endpoints={"a": POD}), whole=True)
    assert watcher.state == {}
    assert {fault.partition(": ")[0] for fault in watcher.faults} == {
        "Service demo/../etc",
        "Endpoint demo/../etc/a",
    }


@pytest.mark.parametrize("bad", [True, False], ids=["beside a bad one", "among good ones"])
@pytest.mark.parametrize("how", ["mended", "deleted", "service gone", "all anew"])
def test_problems_are_taken_back(how: str, bad: bool) -> None:
    """Whatever takes them away: also rows that are surely good, which are not looked at one by one."""
    watcher = Watcher()
    other = {"z": BAD_PODS["every address"]} if bad else {"z": POD}
    company = one(name="ok", service=service("demo/ok"), endpoints=other)
    watcher.take_deltas(one(endpoints={"odd": BAD_PODS["every address"]}), company, whole=True)
    assert "Endpoint demo/web/odd: addresses: no usable address, endpoint left out" in watcher.faults
    ways: dict[str, Iterable[ServiceDelta]] = {
        "mended": [one(service=None, endpoints={"odd": POD})],
        "deleted": [one(service=None, endpoints={"odd": None})],
        "service gone": [one(service=None, gone=True)],
        "all anew": [one(endpoints={"odd": POD}), company],
    }
    watcher.take_deltas(*ways[how], whole=how == "all anew")
    assert not [fault for fault in watcher.faults if "demo/web" in fault]
    assert bool(watcher.faults) == bad


@pytest.mark.parametrize("whole", [True, False])
def test_problems_of_a_round_that_is_dropped_do_not_count(whole: bool) -> None:
    """Neither what it named, nor what it took back: the next round goes on from the one before."""
    watcher = Watcher()
    watcher.take_deltas(one(endpoints={"odd": BAD_PODS["every address"], "good": POD}), whole=True)
    before = watcher.faults
    dropped = watcher.new_round(whole=whole)
    dropped.add([one(endpoints={"odd": POD, "good": BAD_PODS["an address"]})])
    assert watcher.faults == before != set()
    watcher.take_deltas(one(service=None, endpoints={"odd": POD}))
    assert watcher.faults == set()


def test_a_service_that_is_gone_takes_its_endpoints_along() -> None:
    """They are not told one by one, and must not be there again with another service of this name."""
    watcher = Watcher()
    watcher.take_deltas(one(endpoints={"a": POD, "b": POD}), whole=True)
    watcher.take_deltas(one(service=None, gone=True))
    assert watcher.state == {}
    watcher.take_deltas(one(endpoints={"c": POD}))
    assert watcher.state == {"demo/web": (SERVICE, {"c": POD})}


def test_gone_and_back_within_a_round() -> None:
    watcher = Watcher()
    watcher.take_deltas(one(endpoints={"a": POD}), whole=True)
    watcher.take_deltas(one(service=None, gone=True), one(endpoints={"b": POD}))
    assert watcher.state == {"demo/web": (SERVICE, {"b": POD})}


def test_later_parts_take_precedence() -> None:
    """As of what is the same for all nodes, and what is this node's own."""
    local = replace(POD, local=True)
    watcher = Watcher()
    watcher.take_deltas(
        one(endpoints={"a": POD, "b": POD, "c": POD}),
        one(service=None, endpoints={"b": local, "c": None}),
        whole=True,
    )
    assert watcher.state == {"demo/web": (SERVICE, {"a": POD, "b": local})}


def test_a_thousand_good_rows_are_not_slowed_by_a_bad_one(monkeypatch: pytest.MonkeyPatch) -> None:
    apart: list[ServiceDelta] = []
    original = LocalRound._take_apart
    monkeypatch.setattr(
        LocalRound, "_take_apart", lambda self, delta: (apart.append(delta), original(self, delta))[1]
    )
    good = [one(name=f"s{n}", service=service(f"demo/s{n}"), endpoints={"a": POD}) for n in range(1000)]
    watcher = Watcher()
    watcher.take_deltas(*good, one(endpoints={"odd": BAD_PODS["an address"]}), *good, whole=True)
    watcher.take_deltas(*good, whole=False)
    assert [delta.name for delta in apart] == ["web"]
    assert len(watcher.state) == 1001
