"""Frames of HTTP/2 (RFC 9113, sections 4 and 6): bytes <-> header and payload."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from .errors import ErrorCode, Http2Error

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9
DEFAULT_FRAME_BYTES = 16_384
MAX_FRAME_BYTES = (1 << 24) - 1
DEFAULT_WINDOW = 65_535
MAX_WINDOW = (1 << 31) - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6

_HEADER = struct.Struct(">HBBBI")
_SETTING = struct.Struct(">HI")


class Frame(NamedTuple):
    """One received frame, as it was on the wire."""

    type: int
    flags: int
    stream_id: int
    payload: bytes


_NO_TABLE = b"\x20"  # RFC 7541, section 6.3

_NO_STREAM = frozenset((SETTINGS, PING, GOAWAY))
_ANY_STREAM = frozenset((WINDOW_UPDATE,))
_LENGTHS = {RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}


def check_shape(frame: Frame) -> None:
    """What can be said of a frame alone. Raises `Http2Error`."""
    if frame.type > CONTINUATION:
        return  # an unknown type is ignored (section 5.5)
    if frame.type not in _ANY_STREAM and (frame.stream_id == 0) != (frame.type in _NO_STREAM):
        raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"frame type {frame.type} on stream {frame.stream_id}")
    if len(frame.payload) != _LENGTHS.get(frame.type, len(frame.payload)):
        raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"frame type {frame.type} of {len(frame.payload)} bytes")


def header(length: int, frame_type: int, flags: int, stream_id: int) -> bytes:
    """The 9 bytes before a payload."""
    return _HEADER.pack(length >> 8, length & 0xFF, frame_type, flags, stream_id)


def encode(frame_type: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return header(len(payload), frame_type, flags, stream_id) + payload


def settings(values: Mapping[int, int]) -> bytes:
    return encode(SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in values.items()))


def window_update(stream_id: int, increment: int) -> bytes:
    return encode(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    return encode(RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def goaway(last_stream_id: int, code: ErrorCode, reason: str) -> bytes:
    return encode(GOAWAY, 0, 0, struct.pack(">II", last_stream_id, code) + reason.encode())


def headers(stream_id: int, block: bytes, end_stream: bool) -> bytes:
    """HEADERS, and CONTINUATION frames as far as the block is longer than every peer accepts in one frame.

    Every block begins with an update of the dynamic table's size to 0: it is never used, and a peer that lowers its
    SETTINGS_HEADER_TABLE_SIZE demands such an update in the next block (RFC 9113, section 4.3.1).
    """
    block = _NO_TABLE + block
    first, rest = block[:DEFAULT_FRAME_BYTES], block[DEFAULT_FRAME_BYTES:]
    flags = END_STREAM if end_stream else 0
    out = encode(HEADERS, flags | (0 if rest else END_HEADERS), stream_id, first)
    while rest:
        part, rest = rest[:DEFAULT_FRAME_BYTES], rest[DEFAULT_FRAME_BYTES:]
        out += encode(CONTINUATION, 0 if rest else END_HEADERS, stream_id, part)
    return out


def parse_settings(payload: bytes) -> list[tuple[int, int]]:
    """Pairs of identifier and value."""
    if len(payload) % _SETTING.size:
        raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a broken length")
    return list(_SETTING.iter_unpack(payload))


def parse_number(payload: bytes) -> int:
    """The one 31-bit number that WINDOW_UPDATE holds; RST_STREAM's codes are smaller too."""
    return int.from_bytes(payload, "big") & MAX_WINDOW


def parse_goaway(payload: bytes) -> tuple[int, ErrorCode, str]:
    """Last stream identifier, code, what else the peer says."""
    if len(payload) < 8:
        raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY that is too short")
    last, code = struct.unpack_from(">II", payload)
    return last & MAX_WINDOW, ErrorCode.of(code), payload[8:].decode("utf-8", "replace")


def strip(frame: Frame) -> bytes:
    """The payload of DATA or HEADERS without padding and priority (sections 6.1 and 6.2)."""
    payload, start, end = frame.payload, 0, len(frame.payload)
    if frame.flags & PADDED:
        if not payload:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "padded frame without a length of padding")
        start, end = 1, end - payload[0]
    if frame.type == HEADERS and frame.flags & HAS_PRIORITY:
        start += 5
    if end < start:
        raise Http2Error(ErrorCode.PROTOCOL_ERROR, "padding longer than the frame")
    return payload[start:end]


class FrameReader:
    """Cuts a byte stream into frames. Feed it chunks of any size."""

    __slots__ = ("_limit", "_needed", "_rest")

    def __init__(self, max_frame_bytes: int = DEFAULT_FRAME_BYTES) -> None:
        self._limit = max_frame_bytes
        self._needed = HEADER_BYTES
        self._rest: bytearray | None = None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames completed by this chunk; consume it to the end. Raises `Http2Error` on one too long."""
        if self._rest is not None:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data, self._rest = bytes(self._rest), None
        offset, end, self._needed = 0, len(data), HEADER_BYTES
        while end - offset >= HEADER_BYTES:
            high, low, frame_type, flags, stream_id = _HEADER.unpack_from(data, offset)
            stop = offset + HEADER_BYTES + (high << 8 | low)
            if stop - offset - HEADER_BYTES > self._limit:
                raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "frame larger than the maximum")
            if stop > end:
                self._needed = stop - offset
                break
            yield Frame(frame_type, flags, stream_id & MAX_WINDOW, data[offset + HEADER_BYTES : stop])
            offset = stop
        if offset < end:
            self._rest = bytearray(data[offset:])
