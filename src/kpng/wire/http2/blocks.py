"""Header blocks put together from HEADERS and CONTINUATION frames (RFC 9113, section 4.3)."""

from __future__ import annotations

from typing import NamedTuple

from . import frames
from .errors import ErrorCode, Http2Error
from .frames import Frame
from .headers import HeaderDecoder, HeaderList
from .limits import ConnectionLimits


class Block(NamedTuple):
    """A complete, decoded header block."""

    stream_id: int
    headers: HeaderList
    end_stream: bool


class BlockReader:
    """Collects the fragments of the one block that can be under way, within limits (CVE-2024-27316)."""

    __slots__ = ("_count", "_decoder", "_end_stream", "_fragments", "_limits", "_size", "_stream_id")

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._decoder = HeaderDecoder(limits.max_header_list_bytes)
        self._stream_id = 0
        self._end_stream = False
        self._fragments: list[bytes] = []
        self._size = 0
        self._count = 0

    def check_uninterrupted(self, frame: Frame) -> None:
        """Between the frames of a block nothing else may come, not even on another stream."""
        if self._stream_id and (frame.type != frames.CONTINUATION or frame.stream_id != self._stream_id):
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")

    def start(self, frame: Frame) -> Block | None:
        """A HEADERS frame; returns the block if that is all of it."""
        self._stream_id = frame.stream_id
        self._end_stream = bool(frame.flags & frames.END_STREAM)
        self._size = self._count = 0
        return self._add(frame, frames.strip(frame))

    def go_on(self, frame: Frame) -> Block | None:
        """A CONTINUATION frame; returns the block if it was the last."""
        if not self._stream_id:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._count += 1
        return self._add(frame, frame.payload)

    def _add(self, frame: Frame, fragment: bytes) -> Block | None:
        self._fragments.append(fragment)
        self._size += len(fragment)
        if self._size > self._limits.max_header_block_bytes or self._count > self._limits.max_continuations:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "header block is too large")
        if not frame.flags & frames.END_HEADERS:
            return None
        fields = self._decoder.decode(b"".join(self._fragments))
        block = Block(self._stream_id, fields, self._end_stream)
        self._stream_id, self._fragments = 0, []
        return block
