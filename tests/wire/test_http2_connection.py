"""The HTTP/2 core against a peer that is played frame by frame: rules, violations, floods."""

from __future__ import annotations

import struct
from collections.abc import Callable

import hpack
import pytest

from kpng.wire.http2 import (
    Connection,
    ConnectionLimits,
    DataReceived,
    ErrorCode,
    Event,
    GoAwayReceived,
    HeadersReceived,
    Http2Error,
    PingAcknowledged,
    Role,
    SettingsReceived,
    StreamReset,
    encode_block,
)
from kpng.wire.http2 import frames as f
from kpng.wire.http2.frames import Frame, FrameReader, encode

REQUEST = encode_block([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x")])
RESPONSE = encode_block([(b":status", b"200")])
TRAILERS = encode_block([(b"grpc-status", b"0")])


class Peer:
    """A connection under test, and the frames it sends."""

    def __init__(self, role: Role, limits: ConnectionLimits | None = None) -> None:
        self.core = Connection(role, limits or ConnectionLimits())
        self.now = 1000.0
        self._reader = FrameReader(1 << 20)
        start = f.PREFACE if role is Role.SERVER else b""
        self.events = self.core.receive(start + f.settings({}), self.now)
        self.greeting = self._take(skip=0 if role is Role.SERVER else len(f.PREFACE))

    def feed(self, *sent: bytes) -> list[Event]:
        return self.core.receive(b"".join(sent), self.now)

    def take(self) -> list[Frame]:
        return self._take(skip=0)

    def _take(self, skip: int) -> list[Frame]:
        data = b"".join(iter(lambda: b"".join(self.core.take_output()), b""))
        return list(self._reader.feed(data[skip:]))

    def refuses(self, *sent: bytes) -> ErrorCode:
        """What the connection ends with; it says so with GOAWAY too."""
        with pytest.raises(Http2Error) as caught:
            self.feed(*sent)
        last = self.take()[-1]
        assert last.type == f.GOAWAY
        assert f.parse_goaway(last.payload)[1] is caught.value.code
        return caught.value.code


def server(**limits: float) -> Peer:
    return Peer(Role.SERVER, ConnectionLimits(**limits))  # type: ignore[arg-type]


def client() -> Peer:
    return Peer(Role.CLIENT)


def request(stream_id: int, *, end: bool = False) -> bytes:
    return f.headers(stream_id, REQUEST, end)


def data(stream_id: int, payload: bytes, *, end: bool = False) -> bytes:
    return encode(f.DATA, f.END_STREAM if end else 0, stream_id, payload)


def summary(sent: list[Frame]) -> list[tuple[int, int, int]]:
    return [(frame.type, frame.flags, frame.stream_id) for frame in sent]


# Handshake


def test_what_a_server_says_first() -> None:
    peer = server(max_concurrent_streams=7, connection_window=100_000)
    settings, window, acknowledgement = peer.greeting
    assert dict(f.parse_settings(settings.payload)) == {
        f.INITIAL_WINDOW_SIZE: 65_535,
        f.MAX_HEADER_LIST_SIZE: 16_384,
        f.MAX_CONCURRENT_STREAMS: 7,
    }
    assert window == (f.WINDOW_UPDATE, 0, 0, struct.pack(">I", 100_000 - 65_535))
    assert acknowledgement == (f.SETTINGS, f.ACK, 0, b"")
    assert peer.events == [SettingsReceived()]


def test_what_a_client_says_first() -> None:
    core = Connection(Role.CLIENT, ConnectionLimits())
    said = b"".join(core.take_output())
    assert said.startswith(f.PREFACE)
    first = next(FrameReader().feed(said.removeprefix(f.PREFACE)))
    assert dict(f.parse_settings(first.payload))[f.ENABLE_PUSH] == 0


def test_the_handshake_in_single_bytes() -> None:
    core = Connection(Role.SERVER, ConnectionLimits())
    events = [
        event for byte in f.PREFACE + f.settings({}) + request(1) for event in core.receive(bytes((byte,)), 0.0)
    ]
    assert [type(event) for event in events] == [SettingsReceived, HeadersReceived]


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n\r\n", f.PREFACE + encode(f.PING, 0, 0, bytes(8)), b"P\x16"])
def test_a_peer_that_speaks_something_else(start: bytes) -> None:
    core = Connection(Role.SERVER, ConnectionLimits())
    with pytest.raises(Http2Error) as caught:
        core.receive(start, 0.0)
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40), "the peer speaks TLS"),  # ClientHello
        (b"\x15\x03\x01\x00\x02\x02\x46" + bytes(9), "the peer speaks TLS"),  # alert
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the peer does not speak HTTP/2"),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n", "the peer does not speak HTTP/2"),
    ],
)
def test_what_else_a_peer_speaks_is_named(role: Role, start: bytes, said: str) -> None:
    core = Connection(role, ConnectionLimits())
    with pytest.raises(Http2Error) as caught:
        core.receive(start, 0.0)
    assert caught.value.reason == said


# A call from beginning to end


def test_a_call_as_the_server_sees_it() -> None:
    peer = server()
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x")]
    assert peer.feed(request(1), data(1, b"ask")) == [
        HeadersReceived(1, fields, False),
        DataReceived(1, b"ask", False),
    ]
    peer.core.send_headers(1, RESPONSE)
    peer.core.send(1, [b"ans", memoryview(b"wer")])
    sent = peer.take()
    assert summary(sent) == [(f.HEADERS, f.END_HEADERS, 1), (f.DATA, 0, 1)]
    assert sent[1].payload == b"answer"
    assert peer.core.take_drained() == [1]
    assert peer.feed(data(1, b"", end=True)) == [DataReceived(1, b"", True)]
    peer.core.finish(1, TRAILERS)
    assert summary(peer.take()) == [(f.HEADERS, f.END_HEADERS | f.END_STREAM, 1)]
    assert peer.core.stream_count == 0


def test_a_server_that_ends_first_wants_no_more() -> None:
    peer = server()
    peer.feed(request(1))
    peer.core.finish(1, RESPONSE + TRAILERS)
    sent = peer.take()
    assert summary(sent) == [(f.HEADERS, f.END_HEADERS | f.END_STREAM, 1), (f.RST_STREAM, 0, 1)]
    assert sent[1].payload == struct.pack(">I", ErrorCode.NO_ERROR)
    assert peer.feed(data(1, b"late"), encode(f.RST_STREAM, 0, 1, bytes(4))) == []


def test_a_call_as_the_client_sees_it() -> None:
    peer = client()
    assert (peer.core.open(REQUEST), peer.core.open(REQUEST)) == (1, 3)
    peer.core.send(1, [b"ask"])
    peer.core.finish(1)
    sent = peer.take()
    assert summary(sent) == [
        (f.HEADERS, f.END_HEADERS, 1),
        (f.HEADERS, f.END_HEADERS, 3),
        (f.DATA, 0, 1),
        (f.DATA, f.END_STREAM, 1),
    ]
    events = peer.feed(f.headers(1, RESPONSE, False), data(1, b"answer"), f.headers(1, TRAILERS, True))
    assert events == [
        HeadersReceived(1, [(b":status", b"200")], False),
        DataReceived(1, b"answer", False),
        HeadersReceived(1, [(b"grpc-status", b"0")], True),
    ]
    assert peer.core.stream_count == 1


def test_trailers_wait_for_the_data_before_them() -> None:
    peer = server()
    peer.feed(f.settings({f.INITIAL_WINDOW_SIZE: 4}), request(1, end=True))
    peer.take()
    peer.core.send(1, [b"answer"])
    peer.core.finish(1, TRAILERS)
    assert [frame.payload for frame in peer.take()] == [b"answ"]
    assert peer.core.is_pending(1)
    peer.feed(f.window_update(1, 100))
    sent = peer.take()
    assert summary(sent) == [(f.DATA, 0, 1), (f.HEADERS, f.END_HEADERS | f.END_STREAM, 1)]
    assert sent[0].payload == b"er"
    assert not peer.core.is_pending(1)


def test_a_reset_drops_what_was_to_be_sent() -> None:
    peer = server()
    peer.feed(f.settings({f.INITIAL_WINDOW_SIZE: 4}), request(1), request(3))
    peer.take()
    peer.core.send(1, [b"answer"])
    assert peer.feed(f.rst_stream(1, ErrorCode.CANCEL)) == [
        StreamReset(1, ErrorCode.CANCEL, "reset by the peer: CANCEL")
    ]
    peer.core.send(1, [b"more"])
    peer.core.finish(1, TRAILERS)
    peer.core.reset(1, ErrorCode.CANCEL)
    assert peer.take() == []
    assert peer.core.stream_count == 1


def test_streams_take_turns() -> None:
    peer = server()
    peer.feed(f.window_update(0, 1 << 24), f.settings({f.INITIAL_WINDOW_SIZE: 1 << 24}), request(1), request(3))
    peer.take()
    peer.core.send(1, [bytes(300_000)])
    peer.core.send(3, [b"short"])
    order = [frame.stream_id for frame in peer.take()]
    assert order.index(3) < 6
    assert peer.core.take_drained() == [3, 1]


def test_a_small_answer_does_not_copy_and_a_large_one_is_shared() -> None:
    peer = server()
    peer.feed(f.window_update(0, 1 << 24), f.settings({f.INITIAL_WINDOW_SIZE: 1 << 24}), request(1))
    peer.take()
    blob = bytes(100_000)
    peer.core.send(1, [blob])
    pieces = [piece for piece in peer.core.take_output() if isinstance(piece, memoryview)]
    assert sum(map(len, pieces)) == len(blob)
    assert all(piece.obj is blob for piece in pieces)


def test_frames_as_large_as_the_peer_likes_but_not_larger_than_useful() -> None:
    peer = server()
    wide = {f.INITIAL_WINDOW_SIZE: 1 << 24, f.MAX_FRAME_SIZE: 1 << 20}
    peer.feed(f.window_update(0, 1 << 24), f.settings(wide), request(1))
    peer.take()
    peer.core.send(1, [bytes(200_000)])
    assert [len(frame.payload) for frame in peer.take()] == [65_536, 65_536, 65_536, 3392]


# Settings, PING, GOAWAY


def test_ping_is_answered_and_asked() -> None:
    peer = server()
    assert peer.feed(encode(f.PING, 0, 0, b"12345678")) == []
    assert peer.take() == [(f.PING, f.ACK, 0, b"12345678")]
    peer.core.ping(b"abcdefgh")
    assert peer.take() == [(f.PING, 0, 0, b"abcdefgh")]
    assert peer.feed(encode(f.PING, f.ACK, 0, b"abcdefgh")) == [PingAcknowledged(b"abcdefgh")]


def test_a_smaller_initial_window_makes_windows_negative() -> None:
    peer = server()
    peer.feed(request(1))
    peer.core.send(1, [bytes(60_000)])
    assert sum(len(frame.payload) for frame in peer.take()) == 60_000
    peer.feed(f.settings({f.INITIAL_WINDOW_SIZE: 10}))
    peer.take()
    peer.core.send(1, [bytes(20)])
    peer.feed(f.window_update(1, 60_000 - 10))
    assert peer.take() == []
    peer.feed(f.window_update(1, 15))
    assert [len(frame.payload) for frame in peer.take()] == [15]


def test_after_goaway_calls_go_on_but_none_begins() -> None:
    peer = server()
    peer.feed(request(1))
    peer.core.close(ErrorCode.NO_ERROR, "bye")
    peer.core.close()
    assert [f.parse_goaway(frame.payload) for frame in peer.take()] == [(1, ErrorCode.NO_ERROR, "bye")]
    assert peer.feed(request(3), data(1, b"x")) == [DataReceived(1, b"x", False)]
    assert peer.take() == [(f.RST_STREAM, 0, 3, struct.pack(">I", ErrorCode.REFUSED_STREAM))]


def test_goaway_of_the_peer() -> None:
    assert client().feed(f.goaway(5, ErrorCode.ENHANCE_YOUR_CALM, "too much")) == [
        GoAwayReceived(5, ErrorCode.ENHANCE_YOUR_CALM, "too much")
    ]


def test_more_streams_than_allowed_are_refused() -> None:
    peer = server(max_concurrent_streams=2)
    events = peer.feed(request(1), request(3), request(5))
    assert len(events) == 2
    assert peer.take() == [(f.RST_STREAM, 0, 5, struct.pack(">I", ErrorCode.REFUSED_STREAM))]
    peer.feed(f.rst_stream(1, ErrorCode.CANCEL))
    assert len(peer.feed(request(7))) == 1


def test_what_is_not_known_is_ignored() -> None:
    peer = server()
    assert peer.feed(encode(0x55, 0xFF, 9, b"?"), encode(f.PRIORITY, 0, 9, bytes(5))) == []
    assert peer.feed(f.settings({0x99: 1})) == [SettingsReceived()]


def test_headers_with_padding_priority_and_continuations() -> None:
    peer = server()
    padded = b"\x03" + bytes(5) + REQUEST[:5] + bytes(3)
    events = peer.feed(
        encode(f.HEADERS, f.PADDED | f.HAS_PRIORITY | f.END_STREAM, 1, padded),
        encode(f.CONTINUATION, 0, 1, REQUEST[5:9]),
        encode(f.CONTINUATION, f.END_HEADERS, 1, REQUEST[9:]),
    )
    assert events == [HeadersReceived(1, [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x")], True)]


def test_headers_compressed_as_others_do() -> None:
    peer, encoder = server(), hpack.Encoder()
    fields = [(b":method", b"POST"), (b":path", b"/x"), (b"x-long", b"value" * 20)]
    for stream_id in (1, 3):  # the second time from the dynamic table
        block = encoder.encode(fields)
        sent = encode(f.HEADERS, f.END_HEADERS | f.END_STREAM, stream_id, block)
        assert peer.feed(sent) == [HeadersReceived(stream_id, fields, True)]


def test_a_peer_that_wants_no_table_of_headers() -> None:
    """Its decoder insists on hearing that there is none, in the first block after the settings are in force."""
    peer = server()
    peer.feed(f.settings({f.HEADER_TABLE_SIZE: 0}), request(1), request(3))
    peer.take()
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    for stream_id in (1, 3):
        peer.core.finish(stream_id, RESPONSE + TRAILERS)
        fields = decoder.decode(peer.take()[0].payload, raw=True)
        assert fields == [(b":status", b"200"), (b"grpc-status", b"0")]


def test_our_long_headers_come_in_continuations() -> None:
    peer = server()
    peer.feed(request(1))
    fields = [(b"name", b"v" * 40_000)]
    peer.core.send_headers(1, encode_block(fields))
    sent = peer.take()
    assert summary(sent) == [(f.HEADERS, 0, 1), (f.CONTINUATION, 0, 1), (f.CONTINUATION, f.END_HEADERS, 1)]
    decoder = hpack.Decoder(1 << 20)
    assert decoder.decode(b"".join(frame.payload for frame in sent), raw=True) == fields


# Flow control of what we receive


def test_windows_are_given_back_in_large_steps() -> None:
    peer = server(connection_window=65_535)
    peer.feed(request(1), data(1, bytes(16_000)), data(1, bytes(16_000)))
    peer.core.acknowledge(1, 32_000)
    assert peer.take() == []
    peer.feed(data(1, bytes(1000)))
    peer.core.acknowledge(1, 1000)
    assert peer.take() == [
        (f.WINDOW_UPDATE, 0, 0, struct.pack(">I", 33_000)),
        (f.WINDOW_UPDATE, 0, 1, struct.pack(">I", 33_000)),
    ]


def test_padding_is_given_back_without_being_asked() -> None:
    peer = server(connection_window=65_535)
    peer.feed(request(1))
    padded = encode(f.DATA, f.PADDED, 1, b"\xff" + b"x" + bytes(255))
    for _ in range(129):
        assert peer.feed(padded) == [DataReceived(1, b"x", False)]
    assert [frame.stream_id for frame in peer.take()] == [0, 1]


def test_what_nobody_takes_stops_the_stream_but_not_the_connection() -> None:
    peer = server()
    peer.feed(request(1), request(3), *[data(1, bytes(13_107))] * 5)
    events = peer.feed(data(1, b"x"), data(3, b"fine"))
    assert [type(event) for event in events] == [StreamReset, DataReceived]
    assert f.rst_stream(1, ErrorCode.FLOW_CONTROL_ERROR)[9:] in [frame.payload for frame in peer.take()]


# Violations


def connection_violations() -> dict[str, tuple[bytes, ErrorCode]]:
    protocol, size, flow = ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR, ErrorCode.FLOW_CONTROL_ERROR
    return {
        "data on stream 0": (data(0, b"x"), protocol),
        "data on an idle stream": (data(9, b"x"), protocol),
        "data on a stream of the server": (data(2, b"x"), protocol),
        "headers on stream 0": (request(0), protocol),
        "headers on a stream of the server": (request(2), protocol),
        "padding longer than the frame": (encode(f.DATA, f.PADDED, 1, b"\x05abc"), protocol),
        "padded without a length": (encode(f.DATA, f.PADDED, 1), size),
        "reset of an idle stream": (f.rst_stream(9, ErrorCode.CANCEL), protocol),
        "reset on stream 0": (f.rst_stream(0, ErrorCode.CANCEL), protocol),
        "reset of a wrong length": (encode(f.RST_STREAM, 0, 1, b"abc"), size),
        "settings on a stream": (encode(f.SETTINGS, 0, 1), protocol),
        "settings of a broken length": (encode(f.SETTINGS, 0, 0, b"abc"), size),
        "settings acknowledgement with content": (encode(f.SETTINGS, f.ACK, 0, bytes(6)), size),
        "window too large in settings": (f.settings({f.INITIAL_WINDOW_SIZE: 1 << 31}), flow),
        "frames too small in settings": (f.settings({f.MAX_FRAME_SIZE: 100}), protocol),
        "frames too large in settings": (f.settings({f.MAX_FRAME_SIZE: 1 << 24}), protocol),
        "push neither on nor off": (f.settings({f.ENABLE_PUSH: 2}), protocol),
        "ping on a stream": (encode(f.PING, 0, 1, bytes(8)), protocol),
        "ping of a wrong length": (encode(f.PING, 0, 0, bytes(7)), size),
        "goaway on a stream": (encode(f.GOAWAY, 0, 1, bytes(8)), protocol),
        "goaway too short": (encode(f.GOAWAY, 0, 0, bytes(7)), size),
        "push promise": (encode(f.PUSH_PROMISE, 0, 1, bytes(4)), protocol),
        "window update of 0": (f.window_update(0, 0), protocol),
        "window update on an idle stream": (f.window_update(9, 1), protocol),
        "window update of a wrong length": (encode(f.WINDOW_UPDATE, 0, 0, b"abc"), size),
        "window overflow": (f.window_update(0, f.MAX_WINDOW), flow),
        "stream windows overflow": (
            f.window_update(1, f.MAX_WINDOW - 65_535) + f.settings({f.INITIAL_WINDOW_SIZE: 65_536}),
            flow,
        ),
        "priority on stream 0": (encode(f.PRIORITY, 0, 0, bytes(5)), protocol),
        "frame too large": (data(1, bytes(16_385)), size),
        "continuation of nothing": (encode(f.CONTINUATION, f.END_HEADERS, 1, b""), protocol),
        "block interrupted": (encode(f.HEADERS, 0, 3, REQUEST) + encode(f.PING, 0, 0, bytes(8)), protocol),
        "block interrupted by another": (
            encode(f.HEADERS, 0, 3, REQUEST) + encode(f.CONTINUATION, f.END_HEADERS, 5, b""),
            protocol,
        ),
        "broken header compression": (f.headers(3, b"\xff\xff\xff\xff\xff", False), ErrorCode.COMPRESSION_ERROR),
        "header table index out of range": (f.headers(3, b"\xc0", False), ErrorCode.COMPRESSION_ERROR),
    }


@pytest.mark.parametrize(("sent", "code"), connection_violations().values(), ids=connection_violations())
def test_what_ends_the_connection(sent: bytes, code: ErrorCode) -> None:
    peer = server()
    peer.feed(request(1))
    assert peer.refuses(sent) is code


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (f.window_update(1, 0), ErrorCode.PROTOCOL_ERROR),
        (f.window_update(1, f.MAX_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
        (request(1), ErrorCode.PROTOCOL_ERROR),
        (data(1, b"x", end=True) + data(1, b"y"), ErrorCode.STREAM_CLOSED),
        (data(1, b"x", end=True) + request(1, end=True), ErrorCode.STREAM_CLOSED),
        (encode(f.PRIORITY, 0, 1, b"x"), ErrorCode.FRAME_SIZE_ERROR),
    ],
)
def test_what_ends_one_stream(sent: bytes, code: ErrorCode) -> None:
    peer = server()
    peer.feed(request(1), request(3))
    events = peer.feed(sent, data(3, b"fine"))
    assert [(event.stream_id, event.code) for event in events if isinstance(event, StreamReset)] == [(1, code)]
    assert events[-1] == DataReceived(3, b"fine", False)
    assert peer.take() == [(f.RST_STREAM, 0, 1, struct.pack(">I", code))]


def test_a_client_wants_headers_before_data() -> None:
    peer = client()
    peer.core.open(REQUEST)
    [event] = peer.feed(data(1, b"x"))
    assert isinstance(event, StreamReset)
    assert event.code is ErrorCode.PROTOCOL_ERROR


# Hostile peers


def open_and_reset(number: int) -> bytes:
    return request(2 * number + 1) + f.rst_stream(2 * number + 1, ErrorCode.CANCEL)


def open_and_make_us_reset(number: int) -> bytes:
    return request(2 * number + 1) + f.window_update(2 * number + 1, 0)


def suffer(peer: Peer, flood: Callable[[int], bytes], seconds_between: float = 0.0) -> None:
    for number in range(1, 5000):
        peer.now += seconds_between
        peer.feed(flood(number))
        peer.take()


def always(frame: bytes) -> Callable[[int], bytes]:
    return lambda _: frame


FLOODS: dict[str, Callable[[int], bytes]] = {
    "rapid reset (CVE-2023-44487)": open_and_reset,
    "made you reset (CVE-2025-8671)": open_and_make_us_reset,
    "ping": always(encode(f.PING, 0, 0, bytes(8))),
    "ping acknowledgement": always(encode(f.PING, f.ACK, 0, bytes(8))),
    "settings": always(f.settings({})),
    "settings acknowledgement": always(encode(f.SETTINGS, f.ACK, 0)),
    "priority": always(encode(f.PRIORITY, 0, 1, bytes(5))),
    "empty data": always(data(1, b"")),
    "empty data with padding": always(encode(f.DATA, f.PADDED, 1, b"\x01\x00")),
    "window update": always(f.window_update(0, 1)),
    "goaway": always(f.goaway(0, ErrorCode.NO_ERROR, "")),
    "unknown frames": always(encode(0x77, 0, 0)),
    "data on a closed stream": always(data(1, b"x", end=True)),
    "refused streams": lambda number: request(2 * number + 1),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_floods_end_the_connection(flood: Callable[[int], bytes]) -> None:
    peer = server(max_concurrent_streams=10)
    peer.feed(request(1))
    with pytest.raises(Http2Error) as caught:
        suffer(peer, flood)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("flood", ["ping", "rapid reset (CVE-2023-44487)"])
def test_what_is_no_flood_goes_on(flood: str) -> None:
    peer = server()
    suffer(peer, FLOODS[flood], seconds_between=0.05)
    assert not peer.core.closed


def test_a_client_that_measures_the_bandwidth_is_no_flood() -> None:
    """grpc-go sends a PING, and its windows, for whatever DATA it receives."""
    peer = server()
    peer.feed(request(1))
    for _ in range(5000):
        peer.core.send(1, [b"change"])
        peer.take()
        peer.feed(encode(f.PING, 0, 0, bytes(8)), f.window_update(0, 6), f.window_update(1, 6))
    assert not peer.core.closed


def test_a_peer_that_asks_and_does_not_read() -> None:
    peer = server(max_control_bytes=1000)
    peer.feed(*[encode(f.PING, 0, 0, bytes(8))] * 50)
    with pytest.raises(Http2Error, match="does not read"):
        peer.feed(*[encode(f.PING, 0, 0, bytes(8))] * 50)


def test_headers_that_never_end() -> None:
    peer = server()
    assert (
        peer.refuses(encode(f.HEADERS, 0, 1, b""), *[encode(f.CONTINUATION, 0, 1, b"")] * 100)
        is ErrorCode.ENHANCE_YOUR_CALM
    )


def test_headers_that_are_too_large_as_sent() -> None:
    peer = server()
    sent = [encode(f.HEADERS, 0, 1, bytes(16_384)), *[encode(f.CONTINUATION, 0, 1, bytes(16_384))] * 2]
    assert peer.refuses(*sent) is ErrorCode.ENHANCE_YOUR_CALM


def test_headers_that_are_too_large_once_decoded() -> None:
    """A "HPACK bomb": one large field in the table, then many references of one byte to it."""
    peer, encoder = server(), hpack.Encoder()
    bomb = encoder.encode([(b"x", b"v" * 3000)]) + b"\xbe" * 1000
    assert peer.refuses(encode(f.HEADERS, f.END_HEADERS, 1, bomb)) is ErrorCode.ENHANCE_YOUR_CALM
