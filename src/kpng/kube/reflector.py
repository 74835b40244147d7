"""List and watch, sans I/O: what to ask the API server next, and what its answers mean.

The protocol is that of "Kubernetes API Concepts: efficient detection of changes" and KEP-3157 (WatchList): first
everything (streamed by the watch itself where the server can, else as a paginated list), then changes from that
resourceVersion on. One rule stands above all: nothing is deleted because it has merely not been seen yet. So what
has come of a list is handed on only once the list is complete.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from contextlib import nullcontext
from enum import Enum
from typing import Protocol

import msgspec
from msgspec import Raw, Struct

from .backoff import Backoff
from .bulk import bulk_load
from .decode import MALFORMED
from .objects import AnyObject, Metadata, ObjectList, Status, WatchEvent
from .resource import Resource

PAGE_SIZE = 500
_INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_WATCH_SECONDS = (300, 600)
_WATCH_LIST_SECONDS = (120, 180)  # no longer: if the initial events have not ended by then, a list is next
_LIST_SECONDS = 120
_CHECK_SECONDS = 5
_GRACE_SECONDS = 30.0
_DENIED = (401, 403)
_DENIED_SECONDS = 1.0  # a server that has just started may not have read its RBAC rules yet
_SHORT_LIVED_SECONDS = 1.0
_EARLY_SECONDS = 10
_TRANSIENT = (0, *_DENIED, 408, 429, 500, 502, 503)

_event_decoder = msgspec.json.Decoder(WatchEvent)
_list_decoder = msgspec.json.Decoder(ObjectList)
_status_decoder = msgspec.json.Decoder(Status)
_any_decoder = msgspec.json.Decoder(AnyObject)


class Request(Struct, frozen=True):
    """A GET. ``stream``: the answer is lines for `Reflector.lines`; else it is one body for `Reflector.page`.

    ``seconds``: when the answer should have ended. If it has not a while later, nobody is there any more.
    """

    path: str
    params: dict[str, str]
    stream: bool
    seconds: int = _LIST_SECONDS

    @property
    def timeout(self) -> float:
        return self.seconds + _GRACE_SECONDS


class Receiver(Protocol):
    """What takes in the objects (`kpng.kube.intake.Intake`). ``set`` and ``delete`` return the object's
    resourceVersion, which is decoded with the rest; "" where it has none that can be read."""

    def set(self, raw: Raw) -> str: ...
    def delete(self, raw: Raw) -> str: ...
    def discard(self) -> None: ...
    def commit(self, *, replace: bool) -> None: ...


class WatchError(Exception):
    """The watch told of an error, or something that is no watch event; the request is over."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Phase(Enum):
    """What the reflector is at."""

    WATCH_LIST = "watch-list"
    LIST = "list"
    WATCH = "watch"
    CHECK = "check"
    """A watch broke off: before it is resumed, does the server know the version that we have?"""


class Reflector:
    """The protocol's state for one resource.

    The driver performs `request`, feeds what comes (`page`, or `lines` as they arrive together), then says how
    it went (`ended` or `failed`), sleeps as told, and starts over.
    """

    def __init__(self, resource: Resource, receiver: Receiver, chance: random.Random | None = None) -> None:
        self.phase = Phase.WATCH_LIST
        self._resource = resource
        self._receiver = receiver
        self._chance = chance or random.Random()
        self._backoff = Backoff(self._chance)
        self._version = ""
        self._seconds = 0  # of the request
        self._continue = ""
        self._paginated = True
        self.paged = False
        """Whether the server has no WatchList, or not for us, so that lists are read page by page."""
        self._relisting = False  # since the last event: a server that refuses each watch must not be hammered

    # -- asking ------------------------------------------------------------------------------------

    def request(self) -> Request:
        """What to ask now."""
        if self.phase is Phase.LIST:
            return self._body(self._list_params(), _LIST_SECONDS)
        if self.phase is Phase.CHECK:
            return self._body(self._check_params(), _CHECK_SECONDS)
        first = self.phase is Phase.WATCH_LIST
        self._seconds = self._chance.randint(*(_WATCH_LIST_SECONDS if first else _WATCH_SECONDS))
        params = self._selector() | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._seconds),
        }
        if first:
            params |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        else:
            params["resourceVersion"] = self._version
        return Request(self._resource.path, params, True, self._seconds)

    def _body(self, params: dict[str, str], seconds: int) -> Request:
        self._seconds = 0
        return Request(self._resource.path, params, False, seconds)

    def _selector(self) -> dict[str, str]:
        resource = self._resource
        selectors = {"labelSelector": resource.selector, "fieldSelector": resource.field_selector}
        return {name: selector for name, selector in selectors.items() if selector}

    def _list_params(self) -> dict[str, str]:
        params = self._selector()
        if self._paginated:
            params["limit"] = str(PAGE_SIZE)
        if self._continue:
            params["continue"] = self._continue
        return params

    def _check_params(self) -> dict[str, str]:
        """A list of one object. A server whose history is another, shorter one (a backup of etcd was restored)
        answers 504 "Too large resource version"; a watch from that version would just be silent."""
        return {"limit": "1", "resourceVersion": self._version, "resourceVersionMatch": "NotOlderThan"}

    # -- answers -----------------------------------------------------------------------------------

    def page(self, body: bytes) -> None:
        """One page of a list. Raises `WatchError` where it is none."""
        try:
            page = _list_decoder.decode(body)
        except MALFORMED as error:
            raise WatchError(f"the answer is not a list: {error}") from None
        if self.phase is Phase.CHECK:
            self.phase = Phase.WATCH
            return
        with bulk_load():
            for raw in page.items or ():
                self._receiver.set(raw)
            self._continue = page.metadata.continue_token or ""
            if not self._continue:
                self._complete(page.metadata.resource_version or "")

    def lines(self, lines: Iterable[bytes]) -> None:
        """Watch events that arrived together; they become one transaction. Raises `WatchError`."""
        with nullcontext() if self.phase is Phase.WATCH else bulk_load():
            try:
                for line in lines:
                    self._event(line)
            finally:
                if self.phase is Phase.WATCH:
                    self._receiver.commit(replace=False)

    def ended(self, seconds: float) -> float:
        """The answer ended as it should, after so long. Returns how many seconds to wait."""
        if self.phase is Phase.WATCH_LIST:
            return self._restart(Phase.LIST)
        if self.phase is Phase.WATCH and seconds < self._seconds - _EARLY_SECONDS:
            self.phase = Phase.CHECK  # before its time: a server that stops, and may come back as another
            return self._backoff.next() if seconds < _SHORT_LIVED_SECONDS else 0.0
        return 0.0

    def failed(self, status: int = 0, retry_after: float = 0.0) -> float:
        """The request failed: with an HTTP status, or without (0). Returns how many seconds to wait."""
        wait = max(retry_after, _DENIED_SECONDS if status in _DENIED else 0.0)
        if self.phase in (Phase.WATCH, Phase.CHECK):
            return self._watch_failed(status, wait)
        if self.phase is Phase.WATCH_LIST:
            self.paged |= status in (400, 404, 405, 406, 415, 422)
            refused = status in (*_DENIED, 429)  # a list would fare no better
            return self._restart(Phase.WATCH_LIST if refused else Phase.LIST, wait)
        if status == 410:  # the continue token has expired: next time all in one piece
            self._paginated = False
            return self._restart(Phase.LIST, wait)
        return self._restart(self._first_phase(), wait)

    def renewed(self) -> float:
        """The request was refused, and there are better credentials now: the same again, from its beginning, as the
        server may be another one too. Returns how many seconds to wait."""
        if self.phase in (Phase.WATCH, Phase.CHECK):
            return self._watch_failed(401, 0.0)
        return self._restart(self.phase)

    # -- meaning -----------------------------------------------------------------------------------

    def _event(self, line: bytes) -> None:
        try:
            event = _event_decoder.decode(line)
            if event.type in ("ADDED", "MODIFIED"):
                self._advance(self._receiver.set(event.object) or _version_of(event.object))
            elif event.type == "DELETED":
                self._advance(self._receiver.delete(event.object) or _version_of(event.object))
            elif event.type == "BOOKMARK":
                self._bookmark(_any_decoder.decode(event.object).metadata)
            elif event.type == "ERROR":
                self._error(event.object)
            else:
                raise WatchError(f"unknown watch event {event.type[:40]!r}")
        except MALFORMED as error:
            raise WatchError(f"not a watch event: {error}") from None

    def _error(self, raw: Raw) -> None:
        status = _status_decoder.decode(raw)
        raise WatchError(status.message or status.reason or "error without a message", status.code or 500)

    def _advance(self, version: str) -> None:
        """Move on to an event's resourceVersion; those of initial events are of the past."""
        if self.phase is Phase.WATCH:
            self._version = version or self._version
            self._relisting = False
            self._backoff.reset()

    def _bookmark(self, metadata: Metadata) -> None:
        """A certain one ends the initial events (KEP-3157)."""
        version = metadata.resource_version or ""
        if self.phase is Phase.WATCH:
            self._advance(version)
        elif (metadata.annotations or {}).get(_INITIAL_EVENTS_END) == "true":
            self._complete(version)

    def _complete(self, version: str) -> None:
        """Everything is here: hand it on whole, and watch from this version."""
        self._receiver.commit(replace=True)
        self._version = version
        self._paginated = True
        self.phase = Phase.WATCH
        if not self._relisting:
            self._backoff.reset()

    def _watch_failed(self, status: int, wait: float) -> float:
        """Resume where we were, unless the server says that it cannot: 410 Gone (that version is compacted) or
        any other refusal of just this request (as 504 for a version that it has not reached)."""
        if status in _TRANSIENT:
            self.phase = Phase.CHECK
            return self._backoff.next(wait)
        self._relisting = True
        return self._restart(self._first_phase(), wait)

    def _first_phase(self) -> Phase:
        return Phase.LIST if self.paged else Phase.WATCH_LIST

    def _restart(self, phase: Phase, at_least: float = 0.0) -> float:
        self._receiver.discard()
        self._continue = ""
        self.phase = phase
        return self._backoff.next(at_least)


def _version_of(raw: Raw) -> str:
    """For what the receiver could not read. Raises `MALFORMED` where it is no object at all."""
    return _any_decoder.decode(raw).metadata.resource_version or ""
