"""The protocol against a simulated API server with random faults: whatever happens, nothing that has been there
all the time is ever missing, and in the end all is as the server has it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kube.receiver import RecordingReceiver

from kpng.kube.lines import LineSplitter
from kpng.kube.reflector import Phase, Reflector, Request, WatchError
from kpng.kube.resource import Resource

RESOURCE = Resource("things", "/api/v1/things")
KEPT = ("always", "forever")
"""Objects that the server has from first to last."""

PAGE = 2


class RefusedError(Exception):
    """An HTTP status other than 200."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


class SimulatedServer:
    """Objects with versions, a history that can be compacted, pages, watches: as far as the protocol goes."""

    def __init__(self, *, watch_list: bool) -> None:
        self.version = self.base = 100_000
        self.objects: dict[str, int] = {}
        self.history: list[tuple[int, str, str]] = []
        self.compacted = 0
        self.watch_list = watch_list
        for name in KEPT:
            self.put(name)

    def put(self, name: str) -> None:
        self.version += 1
        self.history.append((self.version, "MODIFIED" if name in self.objects else "ADDED", name))
        self.objects[name] = self.version

    def delete(self, name: str) -> None:
        if name in self.objects and name not in KEPT:
            self.version += 1
            del self.objects[name]
            self.history.append((self.version, "DELETED", name))

    def compact(self) -> None:
        self.compacted = self.version
        self.history.clear()

    def restore(self) -> None:
        """A backup of etcd: the same kept objects, but another and shorter history. Each is older than the one
        before: a version that is used twice for different things is nothing that anybody could notice."""
        self.base -= 1000
        self.version = self.base
        self.compacted = 0
        self.history.clear()
        self.objects = {}
        for name in KEPT:
            self.put(name)

    def answer(self, request: Request) -> bytes:
        if not request.stream:
            return self._list(request.params)
        if request.params.get("sendInitialEvents"):
            return self._initial_events()
        return b"".join(self._events(int(request.params["resourceVersion"])))

    def _initial_events(self) -> bytes:
        if not self.watch_list:
            raise RefusedError(422)
        events = [_event("ADDED", name, version) for name, version in self.objects.items()]
        end = {"k8s.io/initial-events-end": "true"}
        return b"".join([*events, _event("BOOKMARK", "", self.version, annotations=end)])

    def _events(self, since: int) -> list[bytes]:
        """From a version to come: silence, as real servers have it."""
        if since < self.compacted:
            status = {"code": 410, "message": "too old resource version"}
            return [json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"]
        events = [_event(what, name, version) for version, what, name in self.history if version > since]
        bookmark = [_event("BOOKMARK", "", self.version)] if self.version > since else []
        return events + bookmark

    def _list(self, params: dict[str, str]) -> bytes:
        version = int(params.get("resourceVersion", "0"))
        if version > self.version:
            raise RefusedError(504)
        limit = PAGE if "limit" in params else len(self.objects)
        after, at = "", self.version
        if token := params.get("continue"):
            then, _, after = token.partition("/")
            at = int(then)
            if at < self.compacted or at > self.version:
                raise RefusedError(410)
        names = sorted(name for name in self._as_of(at) if name > after)
        more = f"{at}/{names[limit - 1]}" if len(names) > limit else ""
        items = [{"metadata": {"name": name, "resourceVersion": "1"}} for name in names[:limit]]
        return json.dumps({"metadata": {"resourceVersion": str(at), "continue": more}, "items": items}).encode()

    def _as_of(self, version: int) -> set[str]:
        """A continued list shows the state of its first page."""
        names = set(self.objects)
        for then, what, name in reversed(self.history):
            if then > version:
                (names.discard if what == "ADDED" else names.add)(name)
        return names


def _event(what: str, name: str, version: int, **metadata: Any) -> bytes:
    thing = {"metadata": {"name": name, "resourceVersion": str(version)} | metadata}
    return json.dumps({"type": what, "object": thing}).encode() + b"\n"


class Cluster(RecordingReceiver):
    """At each commit, all that the server has kept is there."""

    def commit(self, *, replace: bool) -> None:
        super().commit(replace=replace)
        assert self.state.issuperset(KEPT)

    @property
    def lists(self) -> int:
        return sum(replace for _, replace in self.log)


class Run:
    """A reflector and the server that it asks. ``chance`` decides where an answer is cut off."""

    def __init__(self, *, watch_list: bool) -> None:
        self.server = SimulatedServer(watch_list=watch_list)
        self.cluster = Cluster()
        self.reflector = Reflector(RESOURCE, self.cluster, random.Random(1))
        self.waits: list[float] = []

    def ask(self, *, refusal: int | None = None, cut: int | None = None, chunk: int = 1 << 20) -> None:
        """One request: refused, or its answer cut off after some bytes, or whole; in chunks of a size."""
        request = self.reflector.request()
        try:
            if refusal is not None:
                raise RefusedError(refusal)
            body = self.server.answer(request)
            self._feed(request, body[:cut], chunk)
            if cut is not None and cut < len(body):
                raise RefusedError(0)
        except (RefusedError, WatchError) as error:
            self.waits.append(self.reflector.failed(error.status))
        else:
            self.waits.append(self.reflector.ended(600))

    def _feed(self, request: Request, body: bytes, chunk: int) -> None:
        if not request.stream:
            self.reflector.page(body)
            return
        splitter = LineSplitter()
        for at in range(0, len(body), chunk):
            if lines := splitter.feed(body[at : at + chunk]):
                self.reflector.lines(lines)

    def settle(self) -> None:
        """Enough requests without faults for the longest way round."""
        for _ in range(20):
            self.ask()


NAMES = st.sampled_from(["a", "b", "m", "y", "z"])
STEPS = st.one_of(
    st.tuples(st.just("put"), NAMES),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.sampled_from(["compact", "ask", "restore"])),
    st.tuples(st.just("refuse"), st.sampled_from([0, 400, 401, 403, 404, 408, 410, 422, 429, 500, 503, 504])),
    st.tuples(st.just("cut"), st.integers(0, 400), st.integers(1, 60)),
)


def perform(run: Run, step: tuple[Any, ...]) -> None:
    what, *rest = step
    actions: dict[str, Callable[..., None]] = {
        "put": run.server.put,
        "delete": run.server.delete,
        "compact": run.server.compact,
        "restore": run.server.restore,
        "ask": run.ask,
        "refuse": lambda status: run.ask(refusal=status),
        "cut": lambda cut, chunk: run.ask(cut=cut, chunk=chunk),
    }
    actions[what](*rest)


@settings(max_examples=300)
@given(st.booleans(), st.lists(STEPS, max_size=40))
def test_any_sequence_of_changes_and_faults(watch_list: bool, steps: list[tuple[Any, ...]]) -> None:
    run = Run(watch_list=watch_list)
    for step in steps:
        if step[0] == "restore" and run.reflector.phase is Phase.WATCH:
            run.ask(refusal=0)  # a server that is replaced drops its connections
        perform(run, step)
    run.settle()
    assert run.cluster.state == set(run.server.objects)
    assert all(wait >= 0 for wait in run.waits)


@pytest.fixture(params=[True, False], ids=["watch-list", "pages"])
def run(request: pytest.FixtureRequest) -> Run:
    return Run(watch_list=request.param)


def filled(run: Run, *names: str) -> Run:
    for name in names:
        run.server.put(name)
    run.settle()
    assert run.cluster.state == {*KEPT, *names}
    return run


def test_a_continue_token_that_expires_in_the_middle_of_a_list() -> None:
    run = Run(watch_list=False)
    for name in ("a", "b", "m", "y", "z"):
        run.server.put(name)
    run.ask()
    run.ask()
    assert run.reflector.request().params["continue"]
    run.server.delete("a")
    run.server.compact()
    run.ask()
    assert run.cluster.log == []
    run.ask()
    assert run.reflector.request().stream
    assert run.cluster.state == {*KEPT, "b", "m", "y", "z"}
    assert len(run.cluster.log) == 1


def test_a_list_taken_over_several_pages_is_that_of_its_first(run: Run) -> None:
    filled(run, "a", "b", "m")
    run.server.compact()
    run.server.delete("a")
    run.server.compact()
    run.ask()  # 410
    for number in range(10):
        run.server.put(f"later{number}")
        run.ask()
    run.settle()
    assert run.cluster.state == set(run.server.objects)


@pytest.mark.parametrize("cut", range(0, 330, 11))
def test_a_watch_cut_at_any_byte(run: Run, cut: int) -> None:
    filled(run, "a")
    run.server.put("b")
    run.server.delete("a")
    run.ask(cut=cut)
    run.settle()
    assert run.cluster.state == {*KEPT, "b"}


def test_a_watch_of_bookmarks_only_moves_on(run: Run) -> None:
    """So that history may be compacted as long as the bookmarks are newer."""
    filled(run, "a")
    lists = run.cluster.lists
    for _ in range(5):
        run.server.version += 50  # other resources change
        run.ask()
        run.server.compact()
    run.server.put("b")
    run.ask(cut=0)
    run.ask()
    run.ask()
    assert run.cluster.state == {*KEPT, "a", "b"}
    assert run.reflector.request().params["resourceVersion"] == str(run.server.version)
    assert run.cluster.lists == lists


def test_a_storm_of_500_changes_nothing_and_calms_down(run: Run) -> None:
    filled(run, "a")
    run.waits.clear()
    for _ in range(30):
        run.ask(refusal=500)
    assert run.cluster.state == {*KEPT, "a"}
    assert sum(run.waits) > 300
    run.server.put("b")
    run.settle()
    assert run.cluster.state == {*KEPT, "a", "b"}


def test_a_restored_backup_is_noticed_when_the_watch_breaks_off(run: Run) -> None:
    filled(run, "a", "b")
    run.server.restore()
    run.ask()  # in silence
    assert run.cluster.state == {*KEPT, "a", "b"}
    run.ask(refusal=0)
    run.settle()
    assert run.cluster.state == set(KEPT)
