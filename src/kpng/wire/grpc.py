"""gRPC's own small layer over HTTP/2: message framing, status codes and their spelling in headers.

Source: gRPC's "PROTOCOL-HTTP2.md".
"""

from __future__ import annotations

import struct
from enum import IntEnum
from urllib.parse import quote, unquote

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""What gRPC implementations accept by default."""

PREFIX_BYTES = 5
_PREFIX = struct.Struct(">BI")
_TIMEOUT_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_UNESCAPED = "".join(chr(code) for code in range(0x20, 0x7F) if code != ord("%"))


class GrpcStatus(IntEnum):
    """The status codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class GrpcError(Exception):
    """A call ended, or is to end, with a status other than OK."""

    def __init__(self, status: GrpcStatus, message: str = "") -> None:
        super().__init__(f"{status.name}: {message}" if message else status.name)
        self.status = status
        self.message = message


def frame(message: bytes) -> bytes:
    """The message with its prefix, as it goes into the stream. Never compressed: the Go kpng cannot read that."""
    return _PREFIX.pack(0, len(message)) + message


def encode_message(text: str) -> bytes:
    """The value of the ``grpc-message`` trailer: everything but printable ASCII is percent-encoded UTF-8."""
    return quote(text, safe=_UNESCAPED).encode("ascii")


def decode_message(value: str) -> str:
    """The inverse of `encode_message`; never fails, as the protocol demands."""
    return unquote(value, errors="replace")


def parse_status(value: str) -> GrpcStatus:
    """The value of the ``grpc-status`` trailer; what is not known is UNKNOWN."""
    try:
        return GrpcStatus(int(value))
    except ValueError:
        return GrpcStatus.UNKNOWN


def parse_timeout(value: str) -> float:
    """The value of the ``grpc-timeout`` header in seconds. Raises `GrpcError` if it is none."""
    digits, unit = value[:-1], value[-1:]
    if unit not in _TIMEOUT_UNITS or not digits.isascii() or not digits.isdigit() or len(digits) > 8:
        raise GrpcError(GrpcStatus.INTERNAL, "malformed grpc-timeout")
    return int(digits) * _TIMEOUT_UNITS[unit]


class MessageReader:
    """Cuts a byte stream back into messages. Feed it chunks of any size."""

    __slots__ = ("_limit", "_needed", "_rest")

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._limit = max_message_bytes
        self._needed = PREFIX_BYTES
        self._rest: bytearray | None = None

    @property
    def in_message(self) -> bool:
        """Whether the stream so far ends inside a message."""
        return self._rest is not None

    def feed(self, data: bytes) -> list[bytes]:
        """The messages completed by this chunk. Raises `GrpcError` on a compressed or oversized one."""
        if self._rest is not None:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data, self._rest = bytes(self._rest), None
        return self._cut(data)

    def _cut(self, data: bytes) -> list[bytes]:
        messages = []
        offset, end, self._needed = 0, len(data), PREFIX_BYTES
        while end - offset >= PREFIX_BYTES:
            compressed, length = _PREFIX.unpack_from(data, offset)
            self._check(compressed, length)
            stop = offset + PREFIX_BYTES + length
            if stop > end:
                self._needed = stop - offset
                break
            messages.append(data[offset + PREFIX_BYTES : stop])
            offset = stop
        if offset < end:
            self._rest = bytearray(data[offset:])
        return messages

    def _check(self, compressed: int, length: int) -> None:
        if compressed:
            raise GrpcError(GrpcStatus.UNIMPLEMENTED, "compressed messages are not supported")
        if length > self._limit:
            text = f"message of {length} bytes is larger than the maximum of {self._limit}"
            raise GrpcError(GrpcStatus.RESOURCE_EXHAUSTED, text)
