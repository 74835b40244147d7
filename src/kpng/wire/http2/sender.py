"""The way out: control frames first, then DATA of all streams in turn, as far as the windows reach."""

from __future__ import annotations

from collections.abc import Callable

from .errors import ErrorCode, Http2Error, StreamError
from .frames import DATA, DEFAULT_FRAME_BYTES, DEFAULT_WINDOW, MAX_WINDOW, header
from .stream import Buffer, Outbox, Stream

TURN_BYTES = 64 * 1024
"""What one stream may send before it is the next one's turn."""


class Sender:
    """Collects what a connection has to send and hands it out in pieces that the transport can take."""

    __slots__ = (
        "_control",
        "_max_frame_bytes",
        "_ready",
        "_starved",
        "control_bytes",
        "frame_bytes",
        "window",
    )

    def __init__(self, max_frame_bytes: int) -> None:
        self.window = DEFAULT_WINDOW
        self.frame_bytes = DEFAULT_FRAME_BYTES
        self.control_bytes = 0
        self._control: list[Buffer] = []
        self._ready: list[Stream] = []
        self._starved: dict[int, Stream] = {}
        self._max_frame_bytes = max_frame_bytes

    @property
    def has_output(self) -> bool:
        """Whether `take` has something to look at."""
        return bool(self._control or self._ready)

    def control(self, frame: bytes) -> None:
        """Send a frame that is not subject to flow control, before all DATA."""
        self._control.append(frame)
        self.control_bytes += len(frame)

    def set_frame_bytes(self, peer_maximum: int) -> None:
        """The peer's SETTINGS_MAX_FRAME_SIZE; not used beyond a size where larger frames gain nothing."""
        self.frame_bytes = min(peer_maximum, self._max_frame_bytes)

    def schedule(self, stream: Stream) -> None:
        """The stream has something to send, or may again."""
        if not stream.scheduled and not stream.closed and (stream.outbox or stream.finish is not None):
            stream.scheduled = True
            self._ready.append(stream)

    def forget(self, stream: Stream) -> None:
        """The stream is closed. What it had to send is let go now: the peer may never open the window again."""
        stream.outbox = Outbox()
        stream.finish = None
        self._starved.pop(stream.id, None)

    def widen(self, increment: int) -> None:
        """WINDOW_UPDATE for the connection."""
        if increment == 0:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        self.window += increment
        if self.window > MAX_WINDOW:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "window of the connection overflows")
        if self._starved and self.window > 0:
            self._ready += self._starved.values()
            self._starved.clear()

    def widen_stream(self, stream: Stream, increment: int) -> None:
        """WINDOW_UPDATE for a stream."""
        if increment == 0:
            raise StreamError(stream.id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        stream.send_window += increment
        if stream.send_window > MAX_WINDOW:
            raise StreamError(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "window overflows")
        self.schedule(stream)

    def take(self, limit: int, on_turn: Callable[[Stream, int], None]) -> list[Buffer]:
        """The next buffers, about ``limit`` bytes and at least one frame if there is any that may go.

        ``on_turn`` hears of each stream that had its turn, and how many bytes of DATA it sent.
        """
        out, self._control = self._control, []
        size, self.control_bytes = self.control_bytes, 0
        while self._ready and size < limit:
            stream = self._ready.pop(0)
            stream.scheduled = False
            if not stream.closed:
                sent = self._send(stream, out)
                on_turn(stream, sent)
                size += sent
        return out

    def _send(self, stream: Stream, out: list[Buffer]) -> int:
        """One stream's turn; returns how many bytes of DATA."""
        sent = 0
        while stream.outbox and sent < TURN_BYTES:
            room = min(self.frame_bytes, stream.send_window, self.window)
            if room <= 0:
                break
            sent += self._data_frame(stream, stream.outbox.take(room), out)
        if not stream.outbox:
            self._end(stream, out)
        elif self.window <= 0:
            stream.scheduled = True
            self._starved[stream.id] = stream
        elif stream.send_window > 0:
            self.schedule(stream)
        return sent

    def _data_frame(self, stream: Stream, pieces: list[Buffer], out: list[Buffer]) -> int:
        length = sum(map(len, pieces))
        prefix = header(length, DATA, 0, stream.id)
        if len(pieces) == 1:
            out.append(prefix)
            out.append(pieces[0])
        else:  # copying a frame costs 1 us, handing a hundred small pieces to the kernel costs more
            out.append(b"".join((prefix, *pieces)))
        stream.send_window -= length
        self.window -= length
        return length

    def _end(self, stream: Stream, out: list[Buffer]) -> None:
        if stream.finish is not None:
            out.append(stream.finish)
            stream.finish = None
            stream.local_closed = True
