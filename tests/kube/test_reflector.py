"""The protocol without a server: what is asked, what is handed on, how long is waited."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from msgspec import Raw
from tests.kube.receiver import RecordingReceiver

from kpng.kube.convert import Filters
from kpng.kube.reflector import Phase, Reflector, WatchError
from kpng.kube.resource import Resource, resources

RESOURCE = Resource("things", "/api/v1/things", "!hidden")
END = {"k8s.io/initial-events-end": "true"}


def thing(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def event(type_: str, name: str = "", version: int = 1, **metadata: Any) -> bytes:
    obj = {"metadata": {"name": name, "resourceVersion": str(version), **metadata}, "endpoints": None}
    return json.dumps({"type": type_, "object": obj}).encode()


def error_event(code: int, message: str = "too old") -> bytes:
    status = {"kind": "Status", "metadata": {}, "status": "Failure", "code": code, "message": message}
    return json.dumps({"type": "ERROR", "object": status}).encode()


def page_of(*names: str, version: int = 10, token: str | None = None) -> bytes:
    metadata = {"resourceVersion": str(version), "continue": token}
    return json.dumps({"metadata": metadata, "items": [thing(name, 1) for name in names]}).encode()


@pytest.fixture
def receiver() -> RecordingReceiver:
    return RecordingReceiver()


@pytest.fixture
def reflector(receiver: RecordingReceiver) -> Reflector:
    return Reflector(RESOURCE, receiver, random.Random(1))


def watching(reflector: Reflector, *names: str, version: int = 5) -> Reflector:
    lines = [event("ADDED", name) for name in names]
    reflector.lines([*lines, event("BOOKMARK", version=version, annotations=END)])
    assert reflector.phase is Phase.WATCH
    return reflector


# -- asking ----------------------------------------------------------------------------------------


def test_it_begins_with_a_watch_list(reflector: Reflector) -> None:
    request = reflector.request()
    seconds = int(request.params.pop("timeoutSeconds"))
    assert 120 <= seconds <= 180
    assert request.stream
    assert request.path == "/api/v1/things"
    assert request.params == {
        "labelSelector": "!hidden",
        "watch": "true",
        "allowWatchBookmarks": "true",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
    }


def test_after_that_it_watches_from_the_last_version(reflector: Reflector) -> None:
    watching(reflector, "a", version=5)
    assert reflector.request().params["resourceVersion"] == "5"
    assert "sendInitialEvents" not in reflector.request().params
    reflector.lines([event("MODIFIED", "a", 7)])
    assert reflector.request().params["resourceVersion"] == "7"
    reflector.lines([event("BOOKMARK", version=9)])
    assert reflector.request().params["resourceVersion"] == "9"


def test_a_list_goes_page_by_page(reflector: Reflector, receiver: RecordingReceiver) -> None:
    reflector.failed(422)
    assert reflector.request().params == {"labelSelector": "!hidden", "limit": "500"}
    assert not reflector.request().stream
    reflector.page(page_of("a", token="more"))
    assert reflector.ended(0.1) == 0
    assert reflector.request().params["continue"] == "more"
    assert receiver.log == []
    reflector.page(page_of("b"))
    assert receiver.log == [("a b", True)]
    assert reflector.request().params["resourceVersion"] == "10"


def test_a_cluster_may_be_without_service_cidrs_only() -> None:
    assert [resource.name for resource in resources(Filters()) if resource.optional] == ["servicecidrs"]


# -- what is handed on -----------------------------------------------------------------------------


def test_initial_events_are_handed_on_whole_and_only_at_their_end(
    reflector: Reflector, receiver: RecordingReceiver
) -> None:
    reflector.lines([event("ADDED", "a"), event("ADDED", "b")])
    reflector.lines([event("BOOKMARK", version=3), event("DELETED", "b")])
    assert receiver.log == []
    reflector.lines([event("BOOKMARK", version=4, annotations=END), event("ADDED", "c", 5)])
    assert receiver.log == [("a b", True), ("c", False)]
    assert receiver.state == {"a", "c"}


def test_an_empty_cluster_is_handed_on_too(reflector: Reflector, receiver: RecordingReceiver) -> None:
    watching(reflector)
    assert receiver.log[0] == ("", True)


def test_events_that_arrive_together_are_one_commit(reflector: Reflector, receiver: RecordingReceiver) -> None:
    watching(reflector, "a")
    receiver.log.clear()
    reflector.lines([event("ADDED", "b", 6), event("MODIFIED", "b", 7), event("DELETED", "a", 8)])
    assert receiver.log == [("b a", False)]
    assert receiver.state == {"b"}


def test_what_a_broken_list_has_brought_is_forgotten(reflector: Reflector, receiver: RecordingReceiver) -> None:
    watching(reflector, "a", "b")
    reflector.failed(410)
    reflector.lines([event("ADDED", "a")])
    reflector.failed()
    assert receiver.state == {"a", "b"}
    reflector.page(page_of("c", token="more"))
    reflector.failed(500)
    watching(reflector, "a")
    assert receiver.state == {"a"}


def test_events_before_an_error_count(reflector: Reflector, receiver: RecordingReceiver) -> None:
    watching(reflector, "a")
    with pytest.raises(WatchError, match="too old") as caught:
        reflector.lines([event("ADDED", "b", 6), error_event(410), event("ADDED", "never", 7)])
    assert caught.value.status == 410
    assert receiver.state == {"a", "b"}


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[]", b"null", b"not json", b'{"type":"ADDED"}', b'{"type":"ADDED","object":"x"}', b"\xff\xfe"],
)
def test_what_is_no_event_is_an_error(reflector: Reflector, line: bytes) -> None:
    class Strict(RecordingReceiver):
        def set(self, raw: Raw) -> str:
            return ""

    with pytest.raises(WatchError, match="not a watch event"):
        Reflector(RESOURCE, Strict()).lines([line])


def test_unknown_events_are_an_error(reflector: Reflector) -> None:
    with pytest.raises(WatchError, match="unknown watch event 'RENAMED'"):
        reflector.lines([event("RENAMED", "a")])


def test_an_error_event_without_anything(reflector: Reflector) -> None:
    with pytest.raises(WatchError, match="error without a message") as caught:
        reflector.lines([b'{"type":"ERROR","object":{}}'])
    assert caught.value.status == 500


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"items": {}}'])
def test_what_is_no_list_is_an_error(reflector: Reflector, body: bytes) -> None:
    with pytest.raises(WatchError, match="the answer is not a list"):
        reflector.page(body)


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 401, 403, 408, 429, 500, 502, 503])
def test_a_watch_resumes_after_passing_trouble(reflector: Reflector, status: int) -> None:
    watching(reflector, "a", version=5)
    reflector.failed(status)
    check(reflector, "5")
    assert reflector.request().params["resourceVersion"] == "5"
    assert reflector.request().params["watch"] == "true"


def check(reflector: Reflector, version: str) -> None:
    """The server is asked whether it knows the version, and it does."""
    request = reflector.request()
    assert not request.stream
    assert request.params == {"limit": "1", "resourceVersion": version, "resourceVersionMatch": "NotOlderThan"}
    reflector.page(page_of("whatever"))
    assert reflector.ended(0.01) == 0
    assert reflector.phase is Phase.WATCH


@pytest.mark.parametrize("status", [0, 429, 503])
def test_a_check_is_repeated_until_it_is_answered(
    reflector: Reflector, receiver: RecordingReceiver, status: int
) -> None:
    watching(reflector, "a", version=5)
    receiver.log.clear()
    for _ in range(3):
        reflector.failed(status)
        assert reflector.phase is Phase.CHECK
    check(reflector, "5")
    assert receiver.log == []


@pytest.mark.parametrize("status", [400, 404, 410, 422, 504])
def test_a_version_that_the_server_does_not_know_begins_anew(
    reflector: Reflector, receiver: RecordingReceiver, status: int
) -> None:
    watching(reflector, "a", "b", version=900)
    reflector.failed()
    reflector.failed(status)
    assert reflector.phase is Phase.WATCH_LIST
    assert receiver.state == {"a", "b"}
    watching(reflector, "b", version=20)
    assert receiver.state == {"b"}
    assert reflector.request().params["resourceVersion"] == "20"


def test_only_a_watch_that_ends_before_its_time_is_followed_by_a_check(reflector: Reflector) -> None:
    seconds = reflector.request().seconds
    watching(reflector, "a")
    assert reflector.ended(seconds) == 0
    assert reflector.request().stream
    assert reflector.ended(reflector.request().seconds / 2) == 0
    assert not reflector.request().stream


@pytest.mark.parametrize("status", [400, 404, 410, 504])
def test_a_watch_that_is_refused_begins_anew(
    reflector: Reflector, receiver: RecordingReceiver, status: int
) -> None:
    watching(reflector, "a", "b")
    reflector.failed(status)
    assert reflector.phase is Phase.WATCH_LIST
    assert receiver.state == {"a", "b"}
    watching(reflector, "b")
    assert receiver.state == {"b"}


@pytest.mark.parametrize("status", [400, 405, 406, 422])
def test_a_server_that_refuses_watch_lists_is_not_asked_again(reflector: Reflector, status: int) -> None:
    reflector.failed(status)
    assert reflector.phase is Phase.LIST
    reflector.page(page_of("a"))
    reflector.failed(410)
    assert reflector.phase is Phase.LIST


@pytest.mark.parametrize("status", [0, 500, 503])
def test_list_and_watch_list_take_turns_while_neither_works(reflector: Reflector, status: int) -> None:
    phases = []
    for _ in range(4):
        phases.append(reflector.phase)
        reflector.failed(status)
    assert phases == [Phase.WATCH_LIST, Phase.LIST] * 2


def test_a_watch_list_that_ends_too_early_is_followed_by_a_list(
    reflector: Reflector, receiver: RecordingReceiver
) -> None:
    """A server that does not know the parameter may send everything without saying that it was everything."""
    reflector.lines([event("ADDED", "a")])
    reflector.ended(300)
    assert reflector.phase is Phase.LIST
    reflector.page(page_of("a", "b"))
    assert receiver.log == [("a b", True)]


def test_an_expired_continue_token_leads_to_one_whole_list(
    reflector: Reflector, receiver: RecordingReceiver
) -> None:
    reflector.failed(422)
    reflector.page(page_of("gone", token="expires"))
    reflector.failed(410)
    assert reflector.request().params == {"labelSelector": "!hidden"}
    reflector.page(page_of("a"))
    assert receiver.state == {"a"}
    reflector.failed(410)
    assert reflector.request().params["limit"] == "500"


def test_waits_grow_and_are_forgotten_after_success(reflector: Reflector) -> None:
    waits = [reflector.failed() for _ in range(8)]
    assert waits[-1] > waits[0] * 10
    watching(reflector, "a")
    assert reflector.failed() <= 0.15


def test_a_server_that_refuses_every_watch_is_not_hammered(reflector: Reflector) -> None:
    waits = []
    for _ in range(10):
        watching(reflector, "a")
        waits.append(reflector.failed(410))
    assert waits[-1] >= 15
    watching(reflector, "a")
    reflector.lines([event("BOOKMARK", version=8)])
    assert reflector.failed(410) <= 0.15


@pytest.mark.parametrize("status", [401, 403])
def test_refusals_are_retried_at_leisure(reflector: Reflector, status: int) -> None:
    waits = [reflector.failed(status) for _ in range(10)]
    assert min(waits) >= 1
    assert waits[0] <= 1.5
    assert waits[-1] >= 15
    watching(reflector, "a")
    assert 1 <= reflector.failed(status) <= 1.5


@pytest.mark.parametrize("status", [401, 403, 429])
def test_who_may_not_watch_need_not_try_to_list(reflector: Reflector, status: int) -> None:
    """Else the two refusals, which differ in their words, would be told again and again."""
    for _ in range(3):
        reflector.failed(status)
        assert reflector.phase is Phase.WATCH_LIST


def test_with_renewed_credentials_the_same_is_asked_again_and_soon(
    reflector: Reflector, receiver: RecordingReceiver
) -> None:
    assert reflector.renewed() <= 0.15
    assert reflector.phase is Phase.WATCH_LIST
    reflector.failed(500)
    reflector.page(page_of("elsewhere", token="more"))
    reflector.renewed()
    assert reflector.phase is Phase.LIST
    assert "continue" not in reflector.request().params
    reflector.page(page_of("a", version=5))
    assert receiver.log == [("a", True)]
    assert reflector.renewed() <= 0.15
    check(reflector, "5")


def test_the_servers_wish_is_respected(reflector: Reflector) -> None:
    assert 20 <= reflector.failed(429, retry_after=20) <= 30


def test_a_watch_that_ends_at_once_every_time_is_not_hammered(reflector: Reflector) -> None:
    watching(reflector, "a", version=5)
    waits = []
    for _ in range(10):
        reflector.request()
        waits.append(reflector.ended(0.01))
        check(reflector, "5")
    assert all(waits)
    assert waits[-1] >= 15
    assert reflector.ended(600) == 0
    assert reflector.phase is Phase.WATCH
