"""One client's connection: turns streams into calls, and runs their handlers."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping

from kpng.wire.grpc import GrpcError, GrpcStatus, parse_timeout
from kpng.wire.http2 import (
    LINGER_SECONDS,
    Connection,
    DataReceived,
    ErrorCode,
    Event,
    HeaderList,
    HeadersReceived,
    Http2Protocol,
    Role,
    StreamReset,
    encode_block,
    fault_in_request,
)

from ._call import Handler, Limits, ServerCall

logger = logging.getLogger(__name__)

_CONTENT_TYPE = b"application/grpc"
_METHOD_NOT_ALLOWED = encode_block([(b":status", b"405"), (b"allow", b"POST")])
_UNSUPPORTED_MEDIA_TYPE = encode_block([(b":status", b"415")])


class ServerConnection(Http2Protocol):
    """Serves one client."""

    __slots__ = ("_aging", "_calls", "_farewell", "_handlers", "_limits", "_on_lost")

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        limits: Limits,
        peer: str,
        on_lost: Callable[[ServerConnection], None],
    ) -> None:
        super().__init__(Connection(Role.SERVER, limits.connection), limits.keepalive, peer)
        self._handlers = handlers
        self._limits = limits
        self._on_lost = on_lost
        self._calls: dict[int, ServerCall] = {}
        self._aging: asyncio.TimerHandle | None = None
        self._farewell = "the server is shutting down"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if age := self._limits.max_connection_age_seconds:
            # those that came together, after a restart, must not all go together
            self._aging = self._loop.call_later(age * random.uniform(0.9, 1.1), self._grow_old)

    def _grow_old(self) -> None:
        """Ask the client to come again, to whichever server it finds (GOAWAY), and give its calls time to move."""
        self._farewell = "the connection is old enough"
        self.core.close(reason=self._farewell)
        self.flush()
        if self._calls:
            self._aging = self._loop.call_later(self._limits.max_connection_age_grace_seconds, self._cancel_calls)
        else:
            self._linger()

    def _linger(self) -> None:
        """Close soon. What the client still sends until then would turn a close into a reset (RFC 1122, 4.2.2.13),
        and it would not get to read how its calls ended."""
        if self._aging is not None:
            self._aging.cancel()
        self._aging = self._loop.call_later(LINGER_SECONDS, self.close)

    def shut_down(self) -> list[asyncio.Task[None]]:
        """Refuse new calls and cancel those that run; returns their tasks."""
        self.core.close(reason=self._farewell)
        tasks = self._cancel_calls()
        self.flush()
        return tasks

    def _cancel_calls(self) -> list[asyncio.Task[None]]:
        tasks = [call.task for call in self._calls.values() if call.task is not None]
        for task in tasks:
            task.cancel()
        return tasks

    def handle(self, event: Event) -> None:
        match event:
            case DataReceived(stream_id, data, end_stream):
                if (call := self._calls.get(stream_id)) is not None:
                    self._feed(call, data, end_stream)
            case HeadersReceived(stream_id, headers, end_stream):
                self._on_headers(stream_id, headers, end_stream)
            case StreamReset(stream_id, _, reason):
                if (call := self._calls.get(stream_id)) is not None:
                    self._drop(call, reason)

    def drained(self, stream_id: int) -> None:
        if (call := self._calls.get(stream_id)) is not None:
            call.drained()

    def lost(self, reason: str) -> None:
        if self._aging is not None:
            self._aging.cancel()
        for call in list(self._calls.values()):
            self._drop(call, reason)
        self._on_lost(self)

    @staticmethod
    def _feed(call: ServerCall, data: bytes, end_stream: bool) -> None:
        try:
            call.data_received(data)
        except GrpcError as error:
            call.fail(error)
        if end_stream:
            call.end_received()

    def _drop(self, call: ServerCall, reason: str) -> None:
        """The client is no longer there; nobody will see what the handler does from here on.

        Forgotten here, because a task cancelled before its first step does not even reach its ``finally``.
        """
        del self._calls[call.stream_id]
        call.fail(ConnectionResetError(reason))
        if call.task is not None:
            call.task.cancel()

    def _on_headers(self, stream_id: int, headers: HeaderList, end_stream: bool) -> None:
        if (call := self._calls.get(stream_id)) is not None:
            call.end_received()  # trailers: gRPC defines none for requests
        elif fault_in_request(headers) is not None:
            self.core.reset(stream_id, ErrorCode.PROTOCOL_ERROR)
        elif (refusal := _http_refusal(dict(headers))) is not None:
            self.core.finish(stream_id, refusal)
        else:
            self._start(stream_id, headers, end_stream)

    def _start(self, stream_id: int, headers: HeaderList, end_stream: bool) -> None:
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        path = fields[":path"]
        metadata = {name: value for name, value in fields.items() if not name.startswith(":")}
        call = ServerCall(self, stream_id, path, metadata, self._limits.max_message_bytes)
        if (handler := self._handlers.get(path)) is None:
            call.finish(GrpcStatus.UNIMPLEMENTED, f"unknown method {path}")
            return
        self._calls[stream_id] = call
        if end_stream:
            call.end_received()
        call.task = self._loop.create_task(self._serve(call, handler))

    async def _serve(self, call: ServerCall, handler: Handler) -> None:
        """Run a handler and end the call with what comes of it."""
        status, message = GrpcStatus.OK, ""
        try:
            await _within_deadline(call, handler)
        except GrpcError as error:
            status, message = error.status, error.message
        except asyncio.CancelledError:
            status, message = GrpcStatus.UNAVAILABLE, self._farewell
        except Exception as error:
            status, message = GrpcStatus.INTERNAL, "internal error"
            if not (call.is_gone and isinstance(error, ConnectionError)):
                logger.exception("%s: %s failed", self.peer, call.path)
        finally:
            self._calls.pop(call.stream_id, None)
        call.finish(status, message)
        if self.core.closed and not self._calls:
            self._linger()


async def _within_deadline(call: ServerCall, handler: Handler) -> None:
    timeout = call.metadata.get("grpc-timeout")
    if timeout is None:
        await handler(call)
        return
    deadline = asyncio.timeout(parse_timeout(timeout))
    try:
        async with deadline:
            await handler(call)
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise GrpcError(GrpcStatus.DEADLINE_EXCEEDED, "the deadline of the call has passed") from error


def _http_refusal(headers: dict[bytes, bytes]) -> bytes | None:
    """The response to a request that is not gRPC (PROTOCOL-HTTP2.md); None if it is."""
    if headers[b":method"] != b"POST":
        return _METHOD_NOT_ALLOWED
    content_type = headers.get(b"content-type", b"")
    if content_type != _CONTENT_TYPE and not content_type.startswith((_CONTENT_TYPE + b"+", _CONTENT_TYPE + b";")):
        return _UNSUPPORTED_MEDIA_TYPE
    return None
