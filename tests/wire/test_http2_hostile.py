"""Arbitrary bytes and frames: whatever comes, the core answers with a protocol error or carries on."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.wire.http2 import (
    Connection,
    ConnectionLimits,
    Http2Error,
    Role,
    encode_block,
    fault_in_request,
    fault_in_response,
    fault_in_trailers,
)
from kpng.wire.http2 import frames as f
from kpng.wire.http2.frames import encode
from kpng.wire.http2.limits import Budget

REQUEST = encode_block([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x")])
LIMITS = ConnectionLimits(max_concurrent_streams=4)

wild_frames = st.builds(
    encode,
    st.integers(0, 11),
    st.integers(0, 255) | st.sampled_from((0, f.END_STREAM, f.END_HEADERS, f.END_STREAM | f.END_HEADERS)),
    st.integers(0, 9) | st.just(f.MAX_WINDOW),
    st.binary(max_size=40)
    | st.just(REQUEST)
    | st.binary(min_size=4, max_size=4)
    | st.binary(min_size=8, max_size=8),
)
good_frames = st.one_of(
    st.builds(f.headers, st.sampled_from((1, 3, 5, 7)), st.just(REQUEST), st.booleans()),
    st.builds(
        encode, st.just(f.DATA), st.sampled_from((0, 1)), st.sampled_from((1, 3, 5)), st.binary(max_size=100)
    ),
    st.builds(f.window_update, st.sampled_from((0, 1, 3)), st.integers(1, f.MAX_WINDOW)),
    st.builds(
        f.settings, st.dictionaries(st.integers(1, 7), st.integers(0, 1 << 32).map(lambda n: n & 0xFFFFFFFF))
    ),
)


def feed_all(core: Connection, sent: bytes) -> None:
    with contextlib.suppress(Http2Error):
        for event in core.receive(sent, 0.0):
            assert event is not None
            for stream_id in (1, 3):
                core.send(stream_id, [b"some", b"", b"answer"])
                core.acknowledge(stream_id, 1)
            core.take_output()
    while core.take_output():
        pass
    core.take_drained()


@given(st.lists(wild_frames | good_frames, max_size=30))
def test_a_server_survives_any_frames(sent: list[bytes]) -> None:
    feed_all(Connection(Role.SERVER, LIMITS), f.PREFACE + f.settings({}) + b"".join(sent))


@given(st.lists(wild_frames | good_frames, max_size=30))
def test_a_client_survives_any_frames(sent: list[bytes]) -> None:
    core = Connection(Role.CLIENT, LIMITS)
    for _ in range(3):
        core.open(REQUEST)
    feed_all(core, f.settings({}) + b"".join(sent))


@given(st.binary(max_size=200))
def test_any_bytes_after_the_preface(rubbish: bytes) -> None:
    feed_all(Connection(Role.SERVER, LIMITS), f.PREFACE + rubbish)


@given(st.binary(max_size=100))
def test_any_header_block(block: bytes) -> None:
    core = Connection(Role.SERVER, LIMITS)
    feed_all(core, f.PREFACE + f.settings({}) + f.headers(1, block, True))


@given(st.lists(st.tuples(st.binary(max_size=10), st.binary(max_size=10)), max_size=6))
def test_header_checks_never_fail(fields: list[tuple[bytes, bytes]]) -> None:
    for check in (fault_in_request, fault_in_response, fault_in_trailers):
        assert check(fields) is None or isinstance(check(fields), str)


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), max_size=6))
def test_header_blocks_come_back(fields: list[tuple[bytes, bytes]]) -> None:
    import hpack  # noqa: PLC0415 -- the other implementation, as witness

    assert hpack.Decoder(1 << 20).decode(encode_block(fields), raw=True) == fields


def test_a_budget_is_a_burst_and_then_a_rate() -> None:
    budget = Budget(rate=2.0, burst=3)
    assert [budget.spend(100.0) for _ in range(4)] == [True, True, True, False]
    assert [budget.spend(101.0) for _ in range(3)] == [True, True, False]
    assert [budget.spend(1000.0) for _ in range(4)] == [True, True, True, False]
    budget.earn(1)
    assert [budget.spend(1000.0), budget.spend(1000.0)] == [True, False]
    budget.earn(100)
    assert [budget.spend(1000.0) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("padding", [0, 1, 100])
def test_padding_is_taken_off(padding: int) -> None:
    payload = bytes((padding,)) + b"data" + bytes(padding)
    assert f.strip(f.Frame(f.DATA, f.PADDED, 1, payload)) == b"data"
