"""An HTTP/2 connection without I/O (RFC 9113), for servers and clients: bytes in, events and bytes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from . import frames
from .blocks import Block, BlockReader
from .errors import ErrorCode, Http2Error, StreamError
from .events import (
    DataReceived,
    Event,
    GoAwayReceived,
    HeadersReceived,
    PingAcknowledged,
    SettingsReceived,
    StreamReset,
)
from .frames import Frame
from .limits import ConnectionLimits, FloodGuard
from .sender import Sender
from .stream import Buffer, ReceiveWindow, Stream

OUTPUT_BYTES = 256 * 1024
_TLS_RECORDS = (b"\x15", b"\x16")  # alert, handshake (RFC 8446, section 5.1)


class Role(Enum):
    SERVER = "server"
    CLIENT = "client"


class Connection:
    """Feed it with `receive`, act on the events, and send what `take_output` gives after every step."""

    __slots__ = (
        "_blocks",
        "_drained",
        "_events",
        "_guard",
        "_initial_window",
        "_last_remote_id",
        "_limits",
        "_next_id",
        "_preface",
        "_reader",
        "_refuse_above",
        "_role",
        "_sender",
        "_streams",
        "_window",
        "closed",
        "peer_max_streams",
        "settled",
    )

    def __init__(self, role: Role, limits: ConnectionLimits) -> None:
        self.closed = False
        self.settled = False
        """Whether the peer's SETTINGS have come."""
        self.peer_max_streams = 1 << 31
        self._role = role
        self._limits = limits
        self._streams: dict[int, Stream] = {}
        self._next_id = 1
        self._last_remote_id = 0
        self._refuse_above = 1 << 31
        self._preface = frames.PREFACE if role is Role.SERVER else b""
        self._reader = frames.FrameReader()
        self._blocks = BlockReader(limits)
        self._events: list[Event] = []
        self._drained: list[int] = []
        self._initial_window = frames.DEFAULT_WINDOW
        self._window = ReceiveWindow(limits.connection_window)
        self._guard = FloodGuard(limits)
        self._sender = Sender(limits.max_sent_frame_bytes)
        self._greet()

    def _greet(self) -> None:
        limits = self._limits
        values = {
            frames.INITIAL_WINDOW_SIZE: limits.initial_window,
            frames.MAX_HEADER_LIST_SIZE: limits.max_header_list_bytes,
        }
        if self._role is Role.SERVER:
            values[frames.MAX_CONCURRENT_STREAMS] = limits.max_concurrent_streams
        else:
            values[frames.ENABLE_PUSH] = 0
            self._sender.control(frames.PREFACE)
        self._sender.control(frames.settings(values))
        if extra := limits.connection_window - frames.DEFAULT_WINDOW:
            self._sender.control(frames.window_update(0, extra))

    # What the user does

    @property
    def stream_count(self) -> int:
        return len(self._streams)

    def open(self, block: bytes) -> int:
        """Start a stream with a request's header block (clients only); returns its identifier."""
        stream_id = self._next_id
        self._next_id += 2
        self._add_stream(stream_id)
        self.send_headers(stream_id, block)
        return stream_id

    def send_headers(self, stream_id: int, block: bytes) -> None:
        """Send a header block that does not end the stream. Does nothing on a stream that is gone."""
        if stream_id in self._streams:
            self._sender.control(frames.headers(stream_id, block, False))

    def send(self, stream_id: int, buffers: Sequence[Buffer]) -> None:
        """Queue data, by reference. Does nothing on a stream that is gone."""
        if (stream := self._streams.get(stream_id)) is not None and not stream.local_closed:
            stream.outbox.put(buffers)
            self._sender.schedule(stream)

    def finish(self, stream_id: int, trailers: bytes | None = None) -> None:
        """End our side when all data is sent, with trailers (a header block) or without."""
        if (stream := self._streams.get(stream_id)) is None or stream.local_closed:
            return
        if trailers is None:
            stream.finish = frames.encode(frames.DATA, frames.END_STREAM, stream_id)
        else:
            stream.finish = frames.headers(stream_id, trailers, True)
        self._sender.schedule(stream)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """End a stream at once and drop what it had to send. Does nothing on a stream that is gone."""
        if (stream := self._streams.get(stream_id)) is not None:
            self._sender.control(frames.rst_stream(stream_id, code))
            self._forget(stream)

    def acknowledge(self, stream_id: int, length: int) -> None:
        """Data of a `DataReceived` event has been used up: the peer may send that much more."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.remote_closed and (step := stream.receive_window.release(length)):
            self._sender.control(frames.window_update(stream_id, step))

    def is_pending(self, stream_id: int) -> bool:
        """Whether data of this stream still waits in here."""
        stream = self._streams.get(stream_id)
        return stream is not None and bool(stream.outbox)

    def ping(self, payload: bytes = bytes(8)) -> None:
        self._sender.control(frames.encode(frames.PING, 0, 0, payload))

    def close(self, code: ErrorCode = ErrorCode.NO_ERROR, reason: str = "") -> None:
        """Say GOAWAY. Open streams go on; new ones are refused."""
        if not self.closed:
            self.closed = True
            self._refuse_above = self._last_remote_id
            self._sender.control(frames.goaway(self._last_remote_id, code, reason))

    @property
    def has_output(self) -> bool:
        """False if `take_output` would be in vain; it may be even if True."""
        return self._sender.has_output

    def take_output(self, limit: int = OUTPUT_BYTES) -> list[Buffer]:
        """What to write next, about ``limit`` bytes; empty if nothing may go now."""
        return self._sender.take(limit, self._on_turn)

    def take_drained(self) -> list[int]:
        """The streams whose data has all been handed out since the last time."""
        drained, self._drained = self._drained, []
        return drained

    # What the peer does

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take in bytes at a time (any monotonic clock, in seconds). Raises `Http2Error`, with GOAWAY queued."""
        self._guard.now = now
        self._events = []
        try:
            if self._preface:
                data = self._skip_preface(data)
            for frame in self._reader.feed(data):
                self._handle(frame)
            if self._sender.control_bytes > self._limits.max_control_bytes:
                raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "the peer does not read what it asks for")
        except Http2Error as error:
            self.close(error.code, error.reason)
            if self.settled:
                raise
            spoken = "speaks TLS" if data[:1] in _TLS_RECORDS else "does not speak HTTP/2"
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"the peer {spoken}") from error
        events, self._events = self._events, []
        return events

    def _skip_preface(self, data: bytes) -> bytes:
        length = min(len(self._preface), len(data))
        if data[:length] != self._preface[:length]:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "a preface of something else")
        self._preface = self._preface[length:]
        return data[length:]

    def _handle(self, frame: Frame) -> None:
        if not self.settled and (frame.type != frames.SETTINGS or frame.flags & frames.ACK):
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        frames.check_shape(frame)
        self._blocks.check_uninterrupted(frame)
        if frame.type not in _CARRIERS:
            self._guard.overhead()
        try:
            if frame.type < len(_HANDLERS):
                _HANDLERS[frame.type](self, frame)
        except StreamError as error:
            self._fail(error)

    def _fail(self, error: StreamError) -> None:
        """A fault of the peer on one stream. It costs what a reset of its own would."""
        self._guard.reset()
        self._sender.control(frames.rst_stream(error.stream_id, error.code))
        if (stream := self._streams.get(error.stream_id)) is not None:
            self._forget(stream)
            self._events.append(StreamReset(error.stream_id, error.code, str(error)))

    def _stream(self, frame: Frame) -> Stream | None:
        """The stream of a frame; None if it is closed. Raises `Http2Error` if it was never open (section 5.1)."""
        if (stream := self._streams.get(frame.stream_id)) is not None:
            return stream
        newest = self._last_remote_id if self._role is Role.SERVER else self._next_id - 2
        if frame.stream_id > newest or frame.stream_id % 2 == 0:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"frame type {frame.type} on stream {frame.stream_id}")
        self._guard.overhead()
        return None

    def _on_data(self, frame: Frame) -> None:
        data, length = frames.strip(frame), len(frame.payload)
        stream = self._stream(frame)
        if not self._window.consume(length):
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window")
        if step := self._window.release(length):  # else one slow stream would hold up all others
            self._sender.control(frames.window_update(0, step))
        if stream is None:
            return
        end_stream = bool(frame.flags & frames.END_STREAM)
        if stream.remote_closed:
            raise StreamError(stream.id, ErrorCode.STREAM_CLOSED, "data after the end")
        if self._role is Role.CLIENT and not stream.got_headers:
            raise StreamError(stream.id, ErrorCode.PROTOCOL_ERROR, "data before headers")
        if not stream.receive_window.consume(length):
            raise StreamError(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "more data than the window")
        if not data and not end_stream:
            self._guard.overhead()
        self.acknowledge(stream.id, length - len(data))
        self._events.append(DataReceived(stream.id, data, end_stream))
        if end_stream:
            self._close_remote(stream)

    def _on_headers(self, frame: Frame) -> None:
        if (block := self._blocks.start(frame)) is not None:
            self._on_block(block, frame)

    def _on_continuation(self, frame: Frame) -> None:
        if (block := self._blocks.go_on(frame)) is not None:
            self._on_block(block, frame)

    def _on_block(self, block: Block, frame: Frame) -> None:
        stream = self._accept(block.stream_id) if self._is_new(block.stream_id) else self._stream(frame)
        if stream is None:
            return
        if stream.remote_closed:
            raise StreamError(stream.id, ErrorCode.STREAM_CLOSED, "headers after the end")
        if self._role is Role.SERVER and stream.got_headers and not block.end_stream:
            raise StreamError(stream.id, ErrorCode.PROTOCOL_ERROR, "trailers that do not end the stream")
        stream.got_headers = True
        self._events.append(HeadersReceived(*block))
        if block.end_stream:
            self._close_remote(stream)

    def _is_new(self, stream_id: int) -> bool:
        return self._role is Role.SERVER and stream_id % 2 == 1 and stream_id > self._last_remote_id

    def _accept(self, stream_id: int) -> Stream | None:
        """A new stream opened by the peer; None if it is refused."""
        self._last_remote_id = stream_id
        if self.stream_count < self._limits.max_concurrent_streams and stream_id <= self._refuse_above:
            return self._add_stream(stream_id)
        self._guard.overhead()
        self._sender.control(frames.rst_stream(stream_id, ErrorCode.REFUSED_STREAM))
        return None

    def _add_stream(self, stream_id: int) -> Stream:
        stream = Stream(stream_id, self._initial_window, self._limits.initial_window)
        self._streams[stream_id] = stream
        return stream

    def _on_priority(self, frame: Frame) -> None:
        if len(frame.payload) != 5:
            raise StreamError(frame.stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY of a wrong length")

    def _on_rst_stream(self, frame: Frame) -> None:
        code = ErrorCode.of(frames.parse_number(frame.payload))
        if (stream := self._stream(frame)) is None:
            return
        if self._role is Role.SERVER:  # it is servers that this makes work in vain
            self._guard.reset()
        self._forget(stream)
        self._events.append(StreamReset(stream.id, code, f"reset by the peer: {code.name}"))

    def _on_settings(self, frame: Frame) -> None:
        if frame.flags & frames.ACK:
            if frame.payload:
                raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with content")
            return
        # only the last value of each: a frame has room for thousands of windows, each for all streams
        for identifier, value in dict(frames.parse_settings(frame.payload)).items():
            self._apply_setting(identifier, value)
        self.settled = True
        self._sender.control(frames.encode(frames.SETTINGS, frames.ACK, 0))
        self._events.append(SettingsReceived())

    def _apply_setting(self, identifier: int, value: int) -> None:
        match identifier:
            case frames.INITIAL_WINDOW_SIZE:
                self._change_initial_window(value)
            case frames.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME_BYTES <= value <= frames.MAX_FRAME_BYTES:
                    raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"SETTINGS_MAX_FRAME_SIZE of {value}")
                self._sender.set_frame_bytes(value)
            case frames.MAX_CONCURRENT_STREAMS:
                self.peer_max_streams = value
            case frames.ENABLE_PUSH if value > 1:
                raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"SETTINGS_ENABLE_PUSH of {value}")

    def _change_initial_window(self, value: int) -> None:
        """Applies to the streams already open too, whose windows may become negative (section 6.9.2)."""
        if value > frames.MAX_WINDOW:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, f"SETTINGS_INITIAL_WINDOW_SIZE of {value}")
        change, self._initial_window = value - self._initial_window, value
        for stream in self._streams.values():
            stream.send_window += change
            if stream.send_window > frames.MAX_WINDOW:
                raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "window of a stream overflows")
            self._sender.schedule(stream)

    def _on_push_promise(self, frame: Frame) -> None:
        raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"PUSH_PROMISE on stream {frame.stream_id}")

    def _on_ping(self, frame: Frame) -> None:
        if frame.flags & frames.ACK:
            self._events.append(PingAcknowledged(frame.payload))
            return
        self._sender.control(frames.encode(frames.PING, frames.ACK, 0, frame.payload))

    def _on_goaway(self, frame: Frame) -> None:
        self._events.append(GoAwayReceived(*frames.parse_goaway(frame.payload)))

    def _on_window_update(self, frame: Frame) -> None:
        increment = frames.parse_number(frame.payload)
        if frame.stream_id == 0:
            self._sender.widen(increment)
        elif (stream := self._stream(frame)) is not None:
            self._sender.widen_stream(stream, increment)

    # The ends of streams

    def _on_turn(self, stream: Stream, sent: int) -> None:
        """Called by the sender when a stream has had its turn."""
        self._guard.sent(sent, complete=not stream.outbox)
        if stream.outbox:
            return
        self._drained.append(stream.id)
        if stream.local_closed:
            self._close_local(stream)

    def _close_local(self, stream: Stream) -> None:
        if stream.remote_closed:
            self._forget(stream)
        elif self._role is Role.SERVER:  # a complete response; nothing more is wanted (section 8.1)
            self.reset(stream.id, ErrorCode.NO_ERROR)

    def _close_remote(self, stream: Stream) -> None:
        stream.remote_closed = True
        if stream.local_closed:
            self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        stream.closed = True
        self._streams.pop(stream.id, None)
        self._sender.forget(stream)


_CARRIERS = frozenset((frames.DATA, frames.HEADERS, frames.CONTINUATION, frames.RST_STREAM))
"""Frame types that are counted in another way than as overhead."""

_HANDLERS: tuple[Callable[[Connection, Frame], None], ...] = (
    Connection._on_data,
    Connection._on_headers,
    Connection._on_priority,
    Connection._on_rst_stream,
    Connection._on_settings,
    Connection._on_push_promise,
    Connection._on_ping,
    Connection._on_goaway,
    Connection._on_window_update,
    Connection._on_continuation,
)
