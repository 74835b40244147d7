"""HTTP/2 (RFC 9113) for gRPC: a core without I/O, and the asyncio protocol that drives it."""

from .connection import Connection, Role
from .driver import LINGER_SECONDS, Http2Protocol, Keepalive
from .errors import ErrorCode, Http2Error
from .events import (
    DataReceived,
    Event,
    GoAwayReceived,
    HeadersReceived,
    PingAcknowledged,
    SettingsReceived,
    StreamReset,
)
from .headers import HeaderList, encode_block, fault_in_request, fault_in_response, fault_in_trailers
from .limits import ConnectionLimits
from .stream import Buffer

__all__ = [
    "LINGER_SECONDS",
    "Buffer",
    "Connection",
    "ConnectionLimits",
    "DataReceived",
    "ErrorCode",
    "Event",
    "GoAwayReceived",
    "HeaderList",
    "HeadersReceived",
    "Http2Error",
    "Http2Protocol",
    "Keepalive",
    "PingAcknowledged",
    "Role",
    "SettingsReceived",
    "StreamReset",
    "encode_block",
    "fault_in_request",
    "fault_in_response",
    "fault_in_trailers",
]
