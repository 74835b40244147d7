"""Frames as bytes: the RFC's layouts, limits, and any cutting of the stream."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.wire.http2 import ErrorCode, Http2Error
from kpng.wire.http2 import frames as f
from kpng.wire.http2.frames import Frame, FrameReader

LAYOUTS: dict[str, tuple[bytes, str]] = {
    "data": (f.encode(f.DATA, f.END_STREAM, 1, b"ab"), "000002 00 01 00000001 6162"),
    "settings": (f.settings({f.INITIAL_WINDOW_SIZE: 65_536}), "000006 04 00 00000000 0004 00010000"),
    "settings acknowledgement": (f.encode(f.SETTINGS, f.ACK, 0), "000000 04 01 00000000"),
    "window update": (f.window_update(3, 0x01020304), "000004 08 00 00000003 01020304"),
    "reset": (f.rst_stream(5, ErrorCode.CANCEL), "000004 03 00 00000005 00000008"),
    "goaway": (f.goaway(7, ErrorCode.NO_ERROR, "x"), "000009 07 00 00000000 00000007 00000000 78"),
    "ping": (f.encode(f.PING, 0, 0, bytes(8)), "000008 06 00 00000000 0000000000000000"),
    "headers": (f.headers(9, b"\x88", True), "000002 01 05 00000009 20 88"),
    "a long frame": (f.header(0x012345, f.DATA, 0, 1), "012345 00 00 00000001"),
}


@pytest.mark.parametrize(("encoded", "layout"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(encoded: bytes, layout: str) -> None:
    assert encoded == bytes.fromhex(layout)


frames = st.builds(
    Frame, st.integers(0, 255), st.integers(0, 255), st.integers(0, f.MAX_WINDOW), st.binary(max_size=60)
)


@given(st.lists(frames, max_size=10), st.lists(st.integers(0, 1000)))
def test_frames_survive_any_cutting(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(f.encode(*frame) for frame in sent)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    reader = FrameReader()
    assert [frame for start, stop in pairwise(edges) for frame in reader.feed(data[start:stop])] == sent


def test_the_reserved_bit_of_the_stream_is_ignored() -> None:
    [frame] = FrameReader().feed(bytes.fromhex("000000 00 00 80000001"))
    assert frame.stream_id == 1


@pytest.mark.parametrize(("length", "accepted"), [(16_384, True), (16_385, False), (f.MAX_FRAME_BYTES, False)])
def test_a_frame_too_long_is_refused_by_its_header_alone(length: int, accepted: bool) -> None:
    reader = FrameReader()
    start = f.header(length, f.DATA, 0, 1)
    if accepted:
        assert list(reader.feed(start)) == []
        assert [len(frame.payload) for frame in reader.feed(bytes(length))] == [length]
    else:
        with pytest.raises(Http2Error, match="FRAME_SIZE_ERROR"):
            list(reader.feed(start))


@pytest.mark.parametrize(
    ("length", "types"),
    [
        (0, [f.HEADERS]),
        (16_383, [f.HEADERS]),
        (16_384, [f.HEADERS, f.CONTINUATION]),
        (40_000, [f.HEADERS, f.CONTINUATION, f.CONTINUATION]),
    ],
)
@pytest.mark.parametrize("end_stream", [False, True])
def test_header_blocks_are_cut(length: int, types: list[int], end_stream: bool) -> None:
    block = bytes(length)
    parts = list(FrameReader().feed(f.headers(1, block, end_stream)))
    assert [part.type for part in parts] == types
    assert b"".join(part.payload for part in parts) == b"\x20" + block
    assert [bool(part.flags & f.END_HEADERS) for part in parts] == [False] * (len(types) - 1) + [True]
    assert bool(parts[0].flags & f.END_STREAM) == end_stream


@given(st.binary(max_size=50), st.integers(0, 255), st.booleans())
def test_padding_and_priority_come_off(content: bytes, padding: int, priority: bool) -> None:
    flags = f.PADDED | (f.HAS_PRIORITY if priority else 0)
    payload = bytes((padding,)) + (bytes(5) if priority else b"") + content + bytes(padding)
    assert f.strip(Frame(f.HEADERS, flags, 1, payload)) == content


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (Frame(f.DATA, f.PADDED, 1, b""), ErrorCode.FRAME_SIZE_ERROR),
        (Frame(f.DATA, f.PADDED, 1, b"\x01"), ErrorCode.PROTOCOL_ERROR),
        (Frame(f.HEADERS, f.HAS_PRIORITY, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (Frame(f.HEADERS, f.PADDED | f.HAS_PRIORITY, 1, b"\x02" + bytes(6)), ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_broken_padding(frame: Frame, code: ErrorCode) -> None:
    with pytest.raises(Http2Error) as caught:
        f.strip(frame)
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("frame_type", "stream_id", "length", "fine"),
    [
        (f.DATA, 1, 0, True),
        (f.DATA, 0, 0, False),
        (f.HEADERS, 0, 0, False),
        (f.CONTINUATION, 0, 0, False),
        (f.PRIORITY, 0, 5, False),
        (f.RST_STREAM, 1, 4, True),
        (f.RST_STREAM, 1, 5, False),
        (f.SETTINGS, 0, 0, True),
        (f.SETTINGS, 1, 0, False),
        (f.PING, 0, 8, True),
        (f.PING, 0, 9, False),
        (f.PING, 1, 8, False),
        (f.GOAWAY, 1, 8, False),
        (f.WINDOW_UPDATE, 0, 4, True),
        (f.WINDOW_UPDATE, 1, 4, True),
        (f.WINDOW_UPDATE, 1, 3, False),
        (0x42, 0, 3, True),
        (0x42, 1, 3, True),
    ],
)
def test_the_shape_of_frames(frame_type: int, stream_id: int, length: int, fine: bool) -> None:
    frame = Frame(frame_type, 0, stream_id, bytes(length))
    if fine:
        f.check_shape(frame)
    else:
        with pytest.raises(Http2Error, match=r"PROTOCOL_ERROR|FRAME_SIZE_ERROR"):
            f.check_shape(frame)


@given(st.dictionaries(st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), max_size=8))
def test_settings_come_back(values: dict[int, int]) -> None:
    [frame] = FrameReader().feed(f.settings(values))
    assert dict(f.parse_settings(frame.payload)) == values


def test_an_error_code_nobody_knows_counts_as_internal() -> None:
    assert f.parse_goaway(bytes.fromhex("00000001 deadbeef ff")) == (1, ErrorCode.INTERNAL_ERROR, "\ufffd")
    assert ErrorCode.of(8) is ErrorCode.CANCEL


def test_errors_read_well() -> None:
    assert str(Http2Error(ErrorCode.PROTOCOL_ERROR, "no")) == "no (PROTOCOL_ERROR)"
