"""Framing: attributes, messages, answers. Golden bytes are written out by hand from netlink(7)."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.host import netlink
from kpng.host.netlink import Flag, NetfilterSocket, NetlinkError

ATTRIBUTES = [
    (netlink.attribute(1, b""), "0400 0100"),
    (netlink.attribute(2, b"\xaa"), "0500 0200 aa000000"),
    (netlink.attribute(3, b"abcd"), "0800 0300 61626364"),
    (netlink.string(1, "kpng"), "0900 0100 6b706e67 00000000"),
    (netlink.u32(5, 258), "0800 0500 00000102"),
    (netlink.u32(5, -3), "0800 0500 fffffffd"),
    (netlink.u64(6, 1000), "0c00 0600 00000000000003e8"),
    (netlink.nested(4, netlink.u32(1, 1), netlink.attribute(2, b"")), "1000 0480 0800 0100 00000001 0400 0200"),
]


@pytest.mark.parametrize(("encoded", "expected"), ATTRIBUTES)
def test_attributes(encoded: bytes, expected: str) -> None:
    assert encoded.hex() == expected.replace(" ", "")


def test_message() -> None:
    encoded = netlink.message(0xA09, Flag.CREATE, b"body")
    assert encoded.hex() == "14000000090a01040000000000000000" + b"body".hex()


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40))))
def test_attributes_round_trip(pairs: list[tuple[int, bytes]]) -> None:
    encoded = b"".join(netlink.attribute(kind, value) for kind, value in pairs)
    assert [(kind, value) for kind, value, _ in netlink.attributes(encoded)] == pairs


@given(st.binary(max_size=200))
def test_hostile_attributes_end(garbage: bytes) -> None:
    """Whatever comes, the walk ends and stays inside."""
    for _, value, position in netlink.attributes(garbage):
        assert position + 4 + len(value) <= len(garbage) + 3


@given(
    st.lists(st.binary(min_size=0, max_size=30).map(lambda b: netlink.message(1, 0, b)), min_size=1, max_size=20)
)
def test_messages_of_a_transaction_are_numbered(messages: list[bytes]) -> None:
    padded = [m + bytes(-len(m) % 4) for m in messages]
    datagram = netlink._numbered(7, netlink.message(16, 0, b""), padded, netlink.message(17, 0, b""))
    position, numbers, flags = 0, [], []
    for part in (b"0" * 16, *padded, b"0" * 16):
        header = netlink.HEADER.unpack_from(datagram, position)
        numbers.append(header[3])
        flags.append(header[2])
        position += len(part)
    assert position == len(datagram)
    assert numbers == list(range(7, 7 + len(messages) + 2))
    assert [bool(flag & Flag.ACK) for flag in flags] == [False] * len(messages) + [True, False]


def _answer(number: int, sequence: int, *, offset: int | None = None, text: str = "") -> bytes:
    extra = b""
    if text:
        extra += netlink.string(1, text)
    if offset is not None:
        extra += netlink.attribute(2, struct.pack("=I", offset))
    payload = struct.pack("=i", -number) + netlink.HEADER.pack(20, 0xA00, 0, sequence, 0) + extra
    flags = Flag.ACK_ATTRIBUTES if extra else 0
    return netlink.HEADER.pack(16 + len(payload), netlink.NLMSG_ERROR, flags, sequence, 0) + payload


def test_an_error_carries_index_offset_and_text() -> None:
    [(_, flags, _, payload)] = netlink._split(_answer(errno.EEXIST, 9, offset=52, text="because"))
    error = netlink._error(payload, flags, 3)
    assert (error.errno, error.index, error.offset, error.text) == (errno.EEXIST, 3, 52, "because")
    assert "because" in str(error)


def test_an_error_without_details() -> None:
    [(_, flags, _, payload)] = netlink._split(_answer(errno.ENOENT, 9))
    error = netlink._error(payload, flags, 0)
    assert (error.offset, error.strerror) == (None, "No such file or directory")


class FakeSocket:
    """Answers that the kernel would have queued."""

    def __init__(self) -> None:
        self.answers: list[bytes | OSError] = []
        self.on_send: list[bytes | OSError] = []
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(bytes(data))
        self.answers += self.on_send

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self.answers:
            raise BlockingIOError
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def close(self) -> None:
        pass


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> NetfilterSocket:
    sock = NetfilterSocket()
    sock._socket.close()
    sock._socket = FakeSocket()  # type: ignore[assignment]
    return sock


def _transact(sock: NetfilterSocket, *answers: bytes | OSError) -> None:
    sock._socket.on_send = list(answers)  # type: ignore[attr-defined]
    sock.transact(netlink.message(16, 0, b""), [netlink.message(1, 0, b""), netlink.message(2, 0, b"")], b"x" * 16)


def test_all_refused_messages_are_reported(answered: NetfilterSocket) -> None:
    with pytest.raises(NetlinkError) as caught:
        _transact(answered, _answer(errno.EEXIST, 2) + _answer(errno.ENOENT, 3))
    assert caught.value.index == 0
    assert [error.index for error in caught.value.others] == [1]


def test_success_needs_the_acknowledgement_of_the_last_message(answered: NetfilterSocket) -> None:
    _transact(answered, _answer(0, 3))
    with pytest.raises(NetlinkError, match="did not acknowledge"):
        _transact(answered)


def test_an_empty_transaction_sends_nothing(answered: NetfilterSocket) -> None:
    answered.transact(b"", [], b"")
    assert answered._socket.sent == []  # type: ignore[attr-defined]


def test_leftovers_of_a_failure_are_not_taken_for_answers(answered: NetfilterSocket) -> None:
    """The answers overran the receive buffer: what is left of them must not fail the next transaction."""
    with pytest.raises(OSError, match="overrun"):
        _transact(answered, OSError(errno.ENOBUFS, "overrun"), _answer(errno.EEXIST, 2))
    base = answered._sequence
    _transact(answered, _answer(0, base + 3))


THREE = [netlink.message(kind, 0, b"") for kind in (1, 2, 3)]


def _send_all(sock: NetfilterSocket, *answers: bytes | OSError) -> list[NetlinkError]:
    sock._socket.on_send = list(answers)  # type: ignore[attr-defined]
    return sock.send_all(THREE)


def test_independent_messages_are_one_datagram(answered: NetfilterSocket) -> None:
    assert _send_all(answered, _answer(0, 3)) == []
    [sent] = answered._socket.sent  # type: ignore[attr-defined]
    numbered = [(sequence, bool(flags & Flag.ACK)) for _, flags, sequence, _ in netlink._split(sent)]
    assert numbered == [(1, False), (2, False), (3, True)]


REFUSALS = [
    ([_answer(errno.ENOENT, 1) + _answer(0, 3)], [(0, errno.ENOENT)]),
    ([_answer(errno.ENOENT, 2), _answer(errno.EBUSY, 3)], [(1, errno.ENOENT), (2, errno.EBUSY)]),
    ([_answer(errno.ENOENT, 1), _answer(errno.ENOENT, 2), _answer(errno.ENOENT, 3)], [(n, 2) for n in range(3)]),
]


@pytest.mark.parametrize(("answers", "expected"), REFUSALS)
def test_refused_ones_do_not_keep_others_back(
    answered: NetfilterSocket, answers: list[bytes], expected: list[tuple[int, int]]
) -> None:
    refused = _send_all(answered, *answers)
    assert [(error.index, error.errno) for error in refused] == expected


def test_independent_messages_need_an_answer_too(answered: NetfilterSocket) -> None:
    with pytest.raises(NetlinkError, match="did not acknowledge"):
        _send_all(answered)
    with pytest.raises(OSError, match="lost"):
        _send_all(answered, OSError(errno.ENOBUFS, "lost"))
    assert _send_all(answered, _answer(0, 11)) == []


def test_no_message_is_no_datagram(answered: NetfilterSocket) -> None:
    assert answered.send_all([]) == []
    assert answered._socket.sent == []  # type: ignore[attr-defined]
