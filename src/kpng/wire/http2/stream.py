"""One stream of a connection: its windows, its state and what it still has to send."""

from __future__ import annotations

from collections.abc import Sequence

Buffer = bytes | memoryview


class ReceiveWindow:
    """What the peer may still send us. Given back in large steps: one WINDOW_UPDATE per half window."""

    __slots__ = ("_left", "_released", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._left = size
        self._released = 0

    def consume(self, length: int) -> bool:
        """Count received bytes; False if the peer sent more than it may."""
        self._left -= length
        return self._left >= 0

    def release(self, length: int) -> int:
        """Count used up bytes; returns the increment to announce now, mostly 0."""
        self._released += length
        if self._released * 2 < self._size:
            return 0
        increment, self._released = self._released, 0
        self._left += increment
        return increment


class Outbox:
    """Buffers to be sent, kept by reference (they may be shared by thousands of streams) and cut on demand."""

    __slots__ = ("_buffers", "_index", "_offset")

    def __init__(self) -> None:
        self._buffers: Sequence[Buffer] = ()
        self._index = 0
        self._offset = 0

    def __bool__(self) -> bool:
        return self._index < len(self._buffers)

    def put(self, buffers: Sequence[Buffer]) -> None:
        """Add buffers; the sequence itself is kept too and must not change until it has been sent."""
        if self:
            buffers = [*self._buffers[self._index :], *buffers]
        else:
            self._offset = 0
        self._buffers, self._index = buffers, 0
        self._skip_empty()

    def take(self, limit: int) -> list[Buffer]:
        """The next ``limit`` bytes, or what there is, in as many pieces as it takes."""
        pieces: list[Buffer] = []
        while limit and self._index < len(self._buffers):
            buffer = self._buffers[self._index]
            left = len(buffer) - self._offset
            if left > limit:
                pieces.append(memoryview(buffer)[self._offset : self._offset + limit])
                self._offset += limit
                return pieces
            pieces.append(memoryview(buffer)[self._offset :] if self._offset else buffer)
            limit -= left
            self._index += 1
            self._offset = 0
        self._skip_empty()
        return pieces

    def _skip_empty(self) -> None:
        while self._index < len(self._buffers) and not len(self._buffers[self._index]):
            self._index += 1
        if self._index >= len(self._buffers):
            self._buffers, self._index = (), 0


class Stream:
    """State of a stream that is open or half-closed (RFC 9113, section 5.1); a closed one is forgotten."""

    __slots__ = (
        "closed",
        "finish",
        "got_headers",
        "id",
        "local_closed",
        "outbox",
        "receive_window",
        "remote_closed",
        "scheduled",
        "send_window",
    )

    def __init__(self, stream_id: int, send_window: int, receive_window: int) -> None:
        self.id = stream_id
        self.send_window = send_window
        self.receive_window = ReceiveWindow(receive_window)
        self.outbox = Outbox()
        self.finish: bytes | None = None
        """How to end our side once the outbox is empty: the whole last frames."""
        self.scheduled = False
        self.got_headers = False
        self.local_closed = False
        self.remote_closed = False
        self.closed = False
