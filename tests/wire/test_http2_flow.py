"""Two HTTP/2 cores talk to each other: whatever the windows and the cutting, all bytes arrive, in order."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kpng.wire.http2 import Connection, ConnectionLimits, DataReceived, Event, HeadersReceived, Role, encode_block
from kpng.wire.http2.frames import DATA, WINDOW_UPDATE, Frame, FrameReader, encode, settings, window_update
from kpng.wire.http2.stream import Outbox, ReceiveWindow

REQUEST = encode_block([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x")])
TRAILERS = encode_block([(b"grpc-status", b"0")])


def output_of(core: Connection) -> bytes:
    return b"".join(core.take_output())


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


class Pair:
    """A client and a server, and what each has received."""

    def __init__(self, client: ConnectionLimits, server: ConnectionLimits, cuts: list[int]) -> None:
        self.client = Connection(Role.CLIENT, client)
        self.server = Connection(Role.SERVER, server)
        self.cuts = cuts
        self.received: dict[int, bytes] = {}
        self.ended: set[int] = set()

    def settle(self) -> None:
        """Let both talk until they have nothing more to say."""
        while True:
            up, down = output_of(self.client), output_of(self.server)
            if not up and not down:
                return
            for chunk in cut(up, self.cuts):
                self.server.receive(chunk, 0.0)
            for chunk in cut(down, self.cuts):
                for event in self.client.receive(chunk, 0.0):
                    self._note(event)

    def _note(self, event: Event) -> None:
        match event:
            case DataReceived(stream_id, data, _):
                self.received[stream_id] = self.received.get(stream_id, b"") + data
                self.client.acknowledge(stream_id, len(data))
            case HeadersReceived(stream_id, _, True):
                self.ended.add(stream_id)


chunk_cuts = st.lists(st.integers(min_value=0, max_value=1 << 20), max_size=20)
buffer_lists = st.lists(st.binary(max_size=3000) | st.integers(0, 100_000).map(bytes), max_size=12)


@given(st.lists(buffer_lists, min_size=1, max_size=4), chunk_cuts)
def test_all_bytes_arrive_in_order(answers: list[list[bytes]], cuts: list[int]) -> None:
    pair = Pair(ConnectionLimits(connection_window=65_535), ConnectionLimits(), cuts)
    streams = [pair.client.open(REQUEST) for _ in answers]
    pair.settle()
    for stream_id, buffers in zip(streams, answers, strict=True):
        pair.server.send_headers(stream_id, encode_block([(b":status", b"200")]))
        pair.server.send(stream_id, buffers)
        pair.server.finish(stream_id, TRAILERS)
    pair.settle()
    assert pair.ended == set(streams)
    for stream_id, buffers in zip(streams, answers, strict=True):
        assert pair.received.get(stream_id, b"") == b"".join(buffers)


@given(st.lists(st.integers(0, 50_000), max_size=10), chunk_cuts)
def test_requests_arrive_in_order_too(sizes: list[int], cuts: list[int]) -> None:
    pair = Pair(ConnectionLimits(), ConnectionLimits(), cuts)
    stream_id = pair.client.open(REQUEST)
    received = b""
    for number, size in enumerate(sizes):
        pair.client.send(stream_id, [bytes((number,)) * size])
    pair.client.finish(stream_id)
    while data := output_of(pair.client):
        for event in pair.server.receive(data, 0.0):
            if isinstance(event, DataReceived):
                received += event.data
                pair.server.acknowledge(stream_id, len(event.data))
        pair.client.receive(output_of(pair.server), 0.0)
    assert received == b"".join(bytes((number,)) * size for number, size in enumerate(sizes))


class Meter:
    """Plays a client that counts every byte against the windows it has granted."""

    def __init__(self, streams: int) -> None:
        self.core = Connection(Role.SERVER, ConnectionLimits(overhead_burst=1 << 20))
        self.reader = FrameReader(1 << 20)
        self.initial = self.connection = 65_535
        self.windows = {2 * number + 1: self.initial for number in range(streams)}
        self.received = dict.fromkeys(self.windows, b"")
        self._say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings({}))
        for stream_id in self.windows:
            self._say(encode(1, 0x4, stream_id, REQUEST))
        self.collect()

    def _say(self, data: bytes) -> None:
        self.core.receive(data, 0.0)

    def grant(self, stream_id: int, increment: int) -> None:
        if stream_id == 0:
            self.connection += increment
        else:
            self.windows[stream_id] += increment
        self._say(window_update(stream_id, increment))

    def resize(self, initial: int) -> None:
        for stream_id in self.windows:
            self.windows[stream_id] += initial - self.initial
        self.initial = initial
        self._say(settings({4: initial}))

    def collect(self) -> None:
        while data := output_of(self.core):
            for frame in self.reader.feed(data):
                self._count(frame)

    def _count(self, frame: Frame) -> None:
        if frame.type != DATA:
            return
        self.received[frame.stream_id] += frame.payload
        self.windows[frame.stream_id] -= len(frame.payload)
        self.connection -= len(frame.payload)
        assert self.windows[frame.stream_id] >= 0
        assert self.connection >= 0

    def stuck(self, stream_id: int) -> bool:
        return self.connection <= 0 or self.windows[stream_id] <= 0


actions = st.one_of(
    st.tuples(st.just("send"), st.sampled_from((1, 3)), st.integers(0, 80_000)),
    st.tuples(st.just("grant"), st.sampled_from((0, 1, 3)), st.integers(1, 50_000)),
    st.tuples(st.just("resize"), st.just(0), st.integers(0, 100_000)),
)


@given(st.lists(actions, max_size=25))
def test_never_over_a_window_and_never_short_of_it(steps: list[tuple[str, int, int]]) -> None:
    meter = Meter(streams=2)
    sent = {1: b"", 3: b""}
    for number, (action, stream_id, amount) in enumerate(steps):
        if action == "send":
            payload = bytes((number,)) * amount
            sent[stream_id] += payload
            meter.core.send(stream_id, [payload[: amount // 2], memoryview(payload)[amount // 2 :]])
        elif action == "grant":
            meter.grant(stream_id, amount)
        else:
            meter.resize(amount)
        meter.collect()
        for one, expected in sent.items():
            received = meter.received[one]
            assert expected.startswith(received)
            assert received == expected or meter.stuck(one)
            assert meter.core.is_pending(one) == (received != expected)


def test_window_updates_are_few() -> None:
    """30 MB into the default windows: one update of the stream and one of the connection per half window."""
    pair = Pair(ConnectionLimits(connection_window=65_535), ConnectionLimits(), [])
    stream_id = pair.client.open(REQUEST)
    pair.settle()
    pair.server.send(stream_id, [bytes(30_000_000)])
    pair.client.receive(pair_headers(stream_id), 0.0)
    updates, reader = 0, FrameReader()
    while data := output_of(pair.server):
        for event in pair.client.receive(data, 0.0):
            if isinstance(event, DataReceived):
                pair.client.acknowledge(stream_id, len(event.data))
        answer = output_of(pair.client)
        updates += sum(frame.type == WINDOW_UPDATE for frame in reader.feed(answer))
        pair.server.receive(answer, 0.0)
    assert not pair.server.is_pending(stream_id)
    assert updates <= 2 * (30_000_000 // (65_535 // 2)) + 2


def pair_headers(stream_id: int) -> bytes:
    return encode(1, 0x4, stream_id, encode_block([(b":status", b"200")]))


@given(st.lists(st.binary(max_size=10)), st.lists(st.binary(max_size=10)), st.integers(1, 7))
def test_an_outbox_gives_back_what_was_put_in(first: list[bytes], second: list[bytes], step: int) -> None:
    outbox, out = Outbox(), b""
    outbox.put(first)
    out += b"".join(outbox.take(step))
    outbox.put([memoryview(buffer) for buffer in second])
    while outbox:
        piece = b"".join(outbox.take(step))
        assert 0 < len(piece) <= step
        out += piece
    assert out == b"".join(first + second)
    assert outbox.take(step) == []


@given(st.integers(1, 100_000), st.lists(st.integers(0, 1000)))
def test_a_receive_window_never_grows(size: int, lengths: list[int]) -> None:
    window, left = ReceiveWindow(size), size
    for length in lengths:
        left -= length
        assert window.consume(length) == (left >= 0)
        left += window.release(length)
        assert left <= size
        assert left * 2 >= size - 2 * length
