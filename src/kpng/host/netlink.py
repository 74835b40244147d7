"""Netlink (netlink(7), RFC 3549): attributes, messages, and sockets."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from enum import IntFlag

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12
SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33

NLMSG_ERROR = 2
NLMSG_DONE = 3
_CONTROL = (NLMSG_ERROR, NLMSG_DONE)
NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF
_DUMP_INTERRUPTED = 0x10  # a plain number: there may be 100,000 messages to look at
_ERROR_ATTRIBUTE_TEXT = 1
_ERROR_ATTRIBUTE_OFFSET = 2

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""
_ATTRIBUTE = struct.Struct("=HH")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
_SEQUENCE = struct.Struct("=I")
_FLAGS = struct.Struct("=H")
_INT = struct.Struct("=i")


class Flag(IntFlag):
    """nlmsghdr flags; some share a bit and differ by kind of message."""

    REQUEST = 0x1
    ACK = 0x4
    DUMP_INTERRUPTED = 0x10
    DUMP = 0x300
    ACK_ATTRIBUTES = 0x200
    EXCLUSIVE = 0x200
    CREATE = 0x400
    APPEND = 0x800


def attribute(kind: int, payload: bytes) -> bytes:
    length = len(payload)
    return _ATTRIBUTE.pack(length + 4, kind) + payload + _PADDING[length & 3]


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def string(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    """A 32-bit number as nfnetlink wants it: big-endian; negative ones in two's complement."""
    return attribute(kind, (value & 0xFFFFFFFF).to_bytes(4, "big"))


def u64(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(8, "big"))


def attributes(payload: bytes | memoryview, start: int = 0) -> Iterator[tuple[int, bytes, int]]:
    """Walk attributes: (kind without flags, payload, offset of the attribute)."""
    position, end = start, len(payload)
    while position + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(payload, position)
        if length < 4:
            return
        yield kind & _NLA_TYPE_MASK, bytes(payload[position + 4 : position + length]), position
        position += (length + 3) & ~3


def attribute_map(payload: bytes | memoryview, start: int = 0) -> dict[int, bytes]:
    return {kind: value for kind, value, _ in attributes(payload, start)}


def message(kind: int, flags: int, body: bytes) -> bytes:
    """A message with sequence number 0; whoever sends it sets the number."""
    return HEADER.pack(HEADER.size + len(body), kind, flags | Flag.REQUEST, 0, 0) + body


class NetlinkError(OSError):
    """The kernel refused a message.

    ``index`` is its place among the messages sent (-1: one of the frame around them), ``offset`` the place
    of the attribute at fault within it, where the kernel says so, and ``text`` its words, if any. ``others`` are
    the other messages of the same transaction that it refused.
    """

    def __init__(self, number: int, index: int, offset: int | None, text: str) -> None:
        super().__init__(number, text or os.strerror(number))
        self.index = index
        self.offset = offset
        self.text = text
        self.others: tuple[NetlinkError, ...] = ()


class DumpInterruptedError(Exception):
    """The tables changed while they were dumped: what came is no consistent picture."""


class NetlinkSocket:
    """A socket of one netlink protocol (NETLINK_...). Calls from several threads take turns."""

    def __init__(self, protocol: int) -> None:
        self._lock = threading.Lock()
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self._enlarge(SO_SNDBUFFORCE, socket.SO_SNDBUF, (1 << 30) - 1)  # the kernel doubles it; only a limit
        self._enlarge(SO_RCVBUFFORCE, socket.SO_RCVBUF, 8 << 20)
        self._socket.bind((0, 0))

    def _enlarge(self, forced: int, allowed: int, size: int) -> None:
        """A transaction must be one datagram, whatever its size (nfnetlink_rcv_batch)."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, forced, size)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, allowed, size)

    def close(self) -> None:
        """Waits for what another thread has sent to be answered."""
        with self._lock:
            self._socket.close()

    def transact(self, first: bytes, messages: Sequence[bytes], last: bytes) -> None:
        """Send a batch as one datagram and read the answers. Raises `NetlinkError`; then nothing was done."""
        if not messages:
            return
        with self._lock:
            self._forget_leftovers()
            base = self._take_sequence(len(messages) + 2)
            self._socket.send(_numbered(base, first, messages, last))
            self._read_answers(base + 1, len(messages))

    def send_all(self, messages: Sequence[bytes]) -> list[NetlinkError]:
        """Send messages that do not depend on each other as one datagram: a system call for all of them.

        Returns those that were refused (``index`` says which); the others are done.
        """
        if not messages:
            return []
        with self._lock:
            self._forget_leftovers()
            base = self._take_sequence(len(messages))
            self._socket.send(_assembled(base, messages, asking=len(messages) - 1))
            return self._collect_answers(base, len(messages))

    def dump(self, request: bytes) -> list[bytes]:
        """Everything the kernel answers to a dump request, without headers.

        Raises `NetlinkError`, or `DumpInterruptedError` where the answer is inconsistent.
        """
        return list(self.iterate(request))

    def iterate(self, request: bytes) -> Iterator[bytes]:
        """As `dump`, one after the other as they come. Until it ends (or is closed), other calls wait."""
        with self._lock:
            self._send_request(request)
            interrupted = ended = False
            while not ended:
                for kind, flags, _, payload in _split(self._socket.recv(1 << 20)):
                    interrupted = interrupted or flags & _DUMP_INTERRUPTED != 0
                    if kind in _CONTROL:
                        _raise_if_failed(kind, flags, payload)
                        ended = kind == NLMSG_DONE
                    else:
                        yield payload
        if interrupted:
            raise DumpInterruptedError

    def request(self, request: bytes) -> bytes:
        """The one message the kernel answers, without its header."""
        with self._lock:
            self._send_request(request)
            for kind, flags, _, payload in _split(self._socket.recv(1 << 16)):
                _raise_if_failed(kind, flags, payload)
                return payload
        raise OSError(errno.EPROTO, "empty answer from netlink")

    def _take_sequence(self, count: int) -> int:
        base = self._sequence = (self._sequence + 1) & 0x3FFFFFFF
        self._sequence += count
        return base

    def _send_request(self, request: bytes) -> None:
        self._forget_leftovers()
        numbered = bytearray(request)
        _SEQUENCE.pack_into(numbered, 8, self._take_sequence(1))
        self._socket.send(numbered)

    def _read_answers(self, first: int, count: int) -> None:
        """The answers to a transaction: an error of one message is the error of all."""
        errors = self._collect_answers(first, count)
        if errors:
            errors[0].others = tuple(errors[1:])
            raise errors[0]

    def _collect_answers(self, first: int, count: int) -> list[NetlinkError]:
        """The kernel answers before `send` returns, so what there is can be read without waiting.

        Refused messages are always answered, of the others the last one (`Flag.ACK`): no answer is an error.
        """
        errors: list[NetlinkError] = []
        answered = False
        while (datagram := self._receive_now()) is not None:
            for kind, flags, sequence, payload in _split(datagram):
                if kind != NLMSG_ERROR:
                    continue
                answered |= sequence == first + count - 1
                if _INT.unpack_from(payload)[0] != 0:
                    errors.append(_error(payload, flags, sequence - first))
        if not errors and not answered:
            raise NetlinkError(errno.EPROTO, -1, None, "the kernel did not acknowledge the transaction")
        return errors

    def _forget_leftovers(self) -> None:
        """Answers that an error kept us from reading must not be taken for answers to the next request."""
        while True:
            try:
                if self._receive_now() is None:
                    return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # reported once for each overrun
                    raise

    def _receive_now(self) -> bytes | None:
        try:
            return self._socket.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None


class NetfilterSocket(NetlinkSocket):
    """For nf_tables and connection tracking (nfnetlink)."""

    def __init__(self) -> None:
        super().__init__(NETLINK_NETFILTER)


def _numbered(base: int, first: bytes, messages: Sequence[bytes], last: bytes) -> bytearray:
    """One datagram; message N gets sequence number base + 1 + N, the last one asks for an answer."""
    return _assembled(base, (first, *messages, last), asking=len(messages))


def _assembled(base: int, parts: Sequence[bytes], asking: int) -> bytearray:
    """One datagram, numbered from ``base``; the part at index ``asking`` asks for an answer."""
    datagram = bytearray(b"".join(parts))
    position = 0
    for number, part in enumerate(parts):
        _SEQUENCE.pack_into(datagram, position + 8, base + number)
        if number == asking:
            flags = _FLAGS.unpack_from(datagram, position + 6)[0]
            _FLAGS.pack_into(datagram, position + 6, flags | Flag.ACK)
        position += len(part)
    return datagram


def _split(datagram: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages of a datagram: (type, flags, sequence number, payload)."""
    position, end = 0, len(datagram)
    while position < end:
        body = position + HEADER.size
        length, kind, flags, sequence, _ = HEADER.unpack_from(datagram, position) if body <= end else (0,) * 5
        if not HEADER.size <= length <= end - position:
            raise OSError(errno.EPROTO, "truncated answer from netlink")
        yield kind, flags, sequence, datagram[body : position + length]
        position += (length + 3) & ~3


def _raise_if_failed(kind: int, flags: int, payload: bytes) -> None:
    """A dump may also fail in the middle; then the message that ends it says so (netlink_dump_done)."""
    if kind == NLMSG_ERROR:
        raise _error(payload, flags, 0)
    if kind == NLMSG_DONE and len(payload) >= _INT.size and (number := -_INT.unpack_from(payload)[0]) > 0:
        raise NetlinkError(number, 0, None, "")


def _error(payload: bytes, flags: int, index: int) -> NetlinkError:
    """Read an NLMSG_ERROR: errno, the refused message's header, extended attributes (NETLINK_CAP_ACK)."""
    found = attribute_map(payload, 4 + HEADER.size) if flags & Flag.ACK_ATTRIBUTES else {}
    offset = found.get(_ERROR_ATTRIBUTE_OFFSET)
    text = found.get(_ERROR_ATTRIBUTE_TEXT, b"").rstrip(b"\0").decode(errors="replace")
    number = -_INT.unpack_from(payload)[0]
    return NetlinkError(number, index, int.from_bytes(offset, sys.byteorder) if offset else None, text)
