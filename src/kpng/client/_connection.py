"""The HTTP/2 side of a client: hands what arrives to the calls."""

from __future__ import annotations

import asyncio
import logging

from kpng.wire.grpc import GrpcError, GrpcStatus, decode_message, parse_status
from kpng.wire.grpc_stream import GrpcStream
from kpng.wire.http2 import (
    Connection,
    ConnectionLimits,
    DataReceived,
    ErrorCode,
    Event,
    GoAwayReceived,
    HeaderList,
    HeadersReceived,
    Http2Protocol,
    Keepalive,
    Role,
    SettingsReceived,
    StreamReset,
    fault_in_response,
    fault_in_trailers,
)

logger = logging.getLogger(__name__)

LIMITS = ConnectionLimits(initial_window=4 << 20, connection_window=16 << 20)
"""A client asked for what it gets: windows wide enough for a whole local state in flight over a slow path."""

_STATUS_OF_HTTP = {
    b"400": GrpcStatus.INTERNAL,
    b"401": GrpcStatus.UNAUTHENTICATED,
    b"403": GrpcStatus.PERMISSION_DENIED,
    b"404": GrpcStatus.UNIMPLEMENTED,
    b"429": GrpcStatus.UNAVAILABLE,
    b"502": GrpcStatus.UNAVAILABLE,
    b"503": GrpcStatus.UNAVAILABLE,
    b"504": GrpcStatus.UNAVAILABLE,
}
"""gRPC's "http-grpc-status-mapping.md": for answers that come from something that is not a gRPC server."""


class ClientConnection(Http2Protocol):
    """One connection to a server. ``settled`` is done when the server has shown that it speaks HTTP/2."""

    __slots__ = ("calls", "closed", "going_away", "refusal", "settled")

    def __init__(self, keepalive: Keepalive, peer: str) -> None:
        super().__init__(Connection(Role.CLIENT, LIMITS), keepalive, peer)
        self.calls: dict[int, GrpcStream] = {}
        self.refusal: str | None = None
        """Why no new calls may be opened."""
        self.closed = asyncio.Event()
        self.going_away = asyncio.Event()
        self.settled: asyncio.Future[None] = self._loop.create_future()

    def handle(self, event: Event) -> None:
        match event:
            case DataReceived(stream_id, data, end_stream):
                self._on_data(stream_id, data, end_stream)
            case HeadersReceived(stream_id, headers, end_stream):
                self._on_headers(stream_id, headers, end_stream)
            case StreamReset(stream_id, code, reason):
                self.end(stream_id, _reset_error(code, reason))
            case SettingsReceived():
                if not self.settled.done():
                    self.settled.set_result(None)
            case GoAwayReceived(last_stream_id, _, reason):
                self._on_goaway(last_stream_id, reason)

    def drained(self, stream_id: int) -> None:
        if (call := self.calls.get(stream_id)) is not None:
            call.drained()

    def lost(self, reason: str) -> None:
        self.closed.set()
        self.refusal = f"{self.peer}: {reason}"
        if not self.settled.done():
            self.settled.set_exception(ConnectionError(reason))
            self.settled.exception()  # looked at: where the task was cancelled that connects, nobody else does
        for stream_id in list(self.calls):
            self.end(stream_id, ConnectionError(self.refusal))

    def _on_data(self, stream_id: int, data: bytes, end_stream: bool) -> None:
        if (call := self.calls.get(stream_id)) is None:
            return
        try:
            call.data_received(data)
        except GrpcError as error:
            self.end(stream_id, error)
        if end_stream:
            self.end(stream_id, GrpcError(GrpcStatus.INTERNAL, "the server ended the call without a status"))

    def _on_headers(self, stream_id: int, headers: HeaderList, end_stream: bool) -> None:
        fields = dict(headers)
        informational = not end_stream and fields.get(b":status", b"").startswith(b"1")
        if informational or stream_id not in self.calls:
            return
        fault = fault_in_response(headers) if b":status" in fields else fault_in_trailers(headers)
        if fault is not None:
            self.end(stream_id, GrpcError(GrpcStatus.INTERNAL, f"malformed response: {fault}"))
        elif fields.get(b":status", b"200") != b"200":
            self.end(stream_id, _http_error(fields[b":status"]))
        elif end_stream:
            self.end(stream_id, _final_error(fields))
        elif not fields.get(b"content-type", b"").startswith(b"application/grpc"):
            self.end(stream_id, GrpcError(GrpcStatus.UNKNOWN, "the answer is not gRPC"))

    def _on_goaway(self, last_stream_id: int, reason: str) -> None:
        self.refusal = f"{self.peer}: the server goes away" + (f": {reason}" if reason else "")
        self.going_away.set()
        for stream_id in [number for number in self.calls if number > last_stream_id]:
            self.end(stream_id, GrpcError(GrpcStatus.UNAVAILABLE, self.refusal))

    def end(self, stream_id: int, failure: Exception | None) -> None:
        """A call is over; the stream is let go on our side too."""
        if (call := self.calls.pop(stream_id, None)) is None:
            return
        if failure is None:
            call.end_received()
        else:
            call.fail(failure)
        self.core.reset(stream_id, ErrorCode.CANCEL)


def _reset_error(code: ErrorCode, reason: str) -> GrpcError:
    """What a reset means (PROTOCOL-HTTP2.md, "Errors")."""
    status = {
        ErrorCode.REFUSED_STREAM: GrpcStatus.UNAVAILABLE,
        ErrorCode.CANCEL: GrpcStatus.CANCELLED,
        ErrorCode.ENHANCE_YOUR_CALM: GrpcStatus.RESOURCE_EXHAUSTED,
        ErrorCode.INADEQUATE_SECURITY: GrpcStatus.PERMISSION_DENIED,
    }.get(code, GrpcStatus.INTERNAL)
    return GrpcError(status, reason)


def _http_error(status: bytes) -> GrpcError:
    text = f"HTTP status {status.decode('latin-1')}"
    return GrpcError(_STATUS_OF_HTTP.get(status, GrpcStatus.UNKNOWN), text)


def _final_error(trailers: dict[bytes, bytes]) -> GrpcError | None:
    """What the trailers say; None is OK."""
    if (value := trailers.get(b"grpc-status")) is None:
        return GrpcError(GrpcStatus.UNKNOWN, "the server ended the call without a status")
    status = parse_status(value.decode("latin-1"))
    if status is GrpcStatus.OK:
        return None
    return GrpcError(status, decode_message(trailers.get(b"grpc-message", b"").decode("latin-1")))
