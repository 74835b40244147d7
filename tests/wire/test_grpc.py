"""gRPC framing, status codes and their spelling in headers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.wire.grpc import (
    GrpcError,
    GrpcStatus,
    MessageReader,
    decode_message,
    encode_message,
    frame,
    parse_status,
    parse_timeout,
)


def chunks_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


def test_a_frame_is_a_flag_a_length_and_the_message() -> None:
    assert frame(b"abc") == b"\x00\x00\x00\x00\x03abc"
    assert frame(b"") == b"\x00\x00\x00\x00\x00"


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(min_value=0)))
def test_messages_survive_any_cutting_of_the_stream(messages: list[bytes], cuts: list[int]) -> None:
    reader = MessageReader()
    received = [
        message for chunk in chunks_of(b"".join(map(frame, messages)), cuts) for message in reader.feed(chunk)
    ]
    assert received == messages
    assert not reader.in_message


def test_a_message_far_longer_than_its_chunks() -> None:
    message = bytes(range(256)) * 4096
    data = frame(message)
    reader = MessageReader()
    received = [one for start in range(0, len(data), 1000) for one in reader.feed(data[start : start + 1000])]
    assert received == [message]


def test_the_reader_knows_that_a_message_is_incomplete() -> None:
    reader = MessageReader()
    assert reader.feed(frame(b"abc")[:-1]) == []
    assert reader.in_message
    assert reader.feed(b"c") == [b"abc"]
    assert not reader.in_message


def test_a_compressed_message_is_refused() -> None:
    with pytest.raises(GrpcError) as caught:
        MessageReader().feed(b"\x01\x00\x00\x00\x01x")
    assert caught.value.status is GrpcStatus.UNIMPLEMENTED


def test_a_message_over_the_limit_is_refused_before_it_has_come() -> None:
    reader = MessageReader(max_message_bytes=10)
    assert reader.feed(frame(bytes(10))) == [bytes(10)]
    with pytest.raises(GrpcError, match="11 bytes") as caught:
        reader.feed(frame(bytes(11))[:5])
    assert caught.value.status is GrpcStatus.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("", b""),
        ("plain text, with: signs!", b"plain text, with: signs!"),
        ("100 %", b"100 %25"),
        ("two\nlines", b"two%0Alines"),
        ("Grüße", b"Gr%C3%BC%C3%9Fe"),
        ("\x7f", b"%7F"),
        ("~tilde", b"~tilde"),
    ],
)
def test_spelling_of_the_status_message(text: str, encoded: bytes) -> None:
    assert encode_message(text) == encoded
    assert decode_message(encoded.decode()) == text


@given(st.text())
def test_any_status_message_comes_back(text: str) -> None:
    clean = text.encode("utf-8", "replace").decode()
    encoded = encode_message(clean)
    assert all(0x20 <= byte < 0x7F for byte in encoded)
    assert decode_message(encoded.decode("ascii")) == clean


@pytest.mark.parametrize("value", ["%", "%zz", "%ff", "100%"])
def test_decoding_a_broken_status_message_never_fails(value: str) -> None:
    assert isinstance(decode_message(value), str)


@pytest.mark.parametrize(
    ("value", "status"),
    [("0", GrpcStatus.OK), ("12", GrpcStatus.UNIMPLEMENTED), ("99", GrpcStatus.UNKNOWN), ("x", GrpcStatus.UNKNOWN)],
)
def test_status_from_a_trailer(value: str, status: GrpcStatus) -> None:
    assert parse_status(value) is status


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1H", 3600), ("2M", 120), ("3S", 3), ("250m", 0.25), ("10u", 1e-5), ("99999999n", 0.099999999)],
)
def test_timeouts(value: str, seconds: float) -> None:
    assert parse_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["", "1", "S", "-1S", "1.5S", "123456789S", "1s", "²S"])
def test_a_malformed_timeout_is_refused(value: str) -> None:
    with pytest.raises(GrpcError):
        parse_timeout(value)


def test_an_error_reads_well() -> None:
    assert str(GrpcError(GrpcStatus.NOT_FOUND, "no such node")) == "NOT_FOUND: no such node"
    assert str(GrpcError(GrpcStatus.CANCELLED)) == "CANCELLED"
