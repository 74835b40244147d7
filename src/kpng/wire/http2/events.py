"""What a connection tells its user."""

from __future__ import annotations

from typing import NamedTuple

from .errors import ErrorCode
from .headers import HeaderList


class SettingsReceived(NamedTuple):
    """The peer's SETTINGS are in force; the first one ends the handshake."""


class HeadersReceived(NamedTuple):
    """A request, a response or trailers (those always with ``end_stream``)."""

    stream_id: int
    headers: HeaderList
    end_stream: bool


class DataReceived(NamedTuple):
    """Data; give its length back with `Connection.acknowledge` when it has been used up."""

    stream_id: int
    data: bytes
    end_stream: bool


class StreamReset(NamedTuple):
    """A stream ended early, by the peer or because of its fault."""

    stream_id: int
    code: ErrorCode
    reason: str


class PingAcknowledged(NamedTuple):
    """The answer to `Connection.ping`."""

    payload: bytes


class GoAwayReceived(NamedTuple):
    """The peer takes no new streams; those above ``last_stream_id`` were not worked on."""

    last_stream_id: int
    code: ErrorCode
    reason: str


Event = SettingsReceived | HeadersReceived | DataReceived | StreamReset | PingAcknowledged | GoAwayReceived
