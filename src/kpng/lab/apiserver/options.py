"""The query of a list or watch (ListOptions), read and checked as the real server does."""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from kpng.lab.apiserver import errors
from kpng.lab.apiserver.errors import FieldError, forbidden_field
from kpng.lab.apiserver.registry import Key, Kind
from kpng.lab.apiserver.selectors import Selection

_MATCH = "resourceVersionMatch"
_WATCH_SECONDS = 1800


class Continue(msgspec.Struct):
    """A continue token: the snapshot the list began with and the last key given out."""

    revision: int
    last: Key

    def encode(self) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()

    @classmethod
    def parse(cls, token: str) -> Continue:
        try:
            return msgspec.json.decode(base64.urlsafe_b64decode(token), type=cls)
        except (ValueError, msgspec.MsgspecError) as error:
            raise errors.bad_request("continue key is not valid: unable to decode the token") from error


@dataclass(frozen=True)
class ListOptions:
    """``revision`` None: not given, which means the latest state."""

    selection: Selection
    watch: bool
    revision: int | None
    match: str
    limit: int
    token: Continue | None
    bookmarks: bool
    send_initial_events: bool | None
    timeout: float


def parse_options(kind: Kind, namespace: str | None, query: Mapping[str, str], *, watch_list: bool) -> ListOptions:
    """Raises 400 for what cannot be read and 422 for what does not go together."""
    watch = flag(query, "watch")
    initial = flag(query, "sendInitialEvents") if query.get("sendInitialEvents") else None
    options = ListOptions(
        selection=Selection.parse(kind, namespace, query.get("labelSelector", ""), query.get("fieldSelector", "")),
        watch=watch,
        revision=number(query, "resourceVersion"),
        match=query.get(_MATCH, ""),
        limit=number(query, "limit") or 0,
        token=Continue.parse(query["continue"]) if query.get("continue") else None,
        bookmarks=flag(query, "allowWatchBookmarks"),
        send_initial_events=initial,
        timeout=number(query, "timeoutSeconds") or _WATCH_SECONDS * random.uniform(1, 2),
    )
    faults = _watch_faults(options, watch_list) if watch else _list_faults(options)
    if faults:
        raise errors.invalid("ListOptions.meta.k8s.io", "", faults, "meta.k8s.io")
    return options


def flag(query: Mapping[str, str], name: str) -> bool:
    """Booleans of a query: "1" and "true" are true; an empty value is true, too, if the name is there."""
    return query.get(name, "false").lower() in ("true", "1", "t", "")


def number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    if not text.isdecimal():
        raise errors.bad_request(f"Invalid value: {errors.quoted(text)}: {name} must be a number")
    return int(text)


def _watch_faults(options: ListOptions, watch_list: bool) -> list[FieldError]:
    faults = []
    if options.send_initial_events is not None:
        if options.match != "NotOlderThan":
            text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            faults.append(forbidden_field(_MATCH, text))
        if not watch_list:
            text = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
            faults.append(forbidden_field("sendInitialEvents", text))
    elif options.match:
        text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        faults.append(forbidden_field(_MATCH, text))
    return faults


def _list_faults(options: ListOptions) -> list[FieldError]:
    faults = []
    if options.send_initial_events is not None:
        faults.append(forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if options.match:
        if options.revision is None:
            text = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            faults.append(forbidden_field(_MATCH, text))
        if options.token:
            text = "resourceVersionMatch is forbidden when continue is provided"
            faults.append(forbidden_field(_MATCH, text))
        if options.match not in ("Exact", "NotOlderThan"):
            faults.append(errors.unsupported(_MATCH, options.match, ("Exact", "NotOlderThan", "")))
        if options.match == "Exact" and options.revision == 0:
            text = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            faults.append(forbidden_field(_MATCH, text))
    return faults
