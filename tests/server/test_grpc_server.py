"""The server's life: listening, limits, clients that misbehave or die, closing."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kpng.client.grpc import EndOfStream, GrpcConnection
from kpng.lab.certificates import CertificateAuthority
from kpng.model import UserError
from kpng.server.grpc import GrpcServer, Handler, Limits, ServerCall
from kpng.wire.grpc import GrpcError, GrpcStatus, frame
from kpng.wire.http2 import ErrorCode, HeaderList, encode_block
from kpng.wire.http2 import frames as f
from kpng.wire.http2.frames import Frame, FrameReader
from kpng.wire.http2.headers import HeaderDecoder
from kpng.wire.tls import client_context, server_context

LOCAL = "tcp://127.0.0.1:0"
QUICK = Limits(handshake_seconds=0.3, keepalive_seconds=0.1, keepalive_timeout_seconds=0.3)


async def echo_call(call: ServerCall) -> None:
    while (message := await call.receive()) is not None:
        await call.send([frame(message)])


class Trace:
    """A handler that waits for its client, and what became of it."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.calls: list[ServerCall] = []

    async def __call__(self, call: ServerCall) -> None:
        self.calls.append(call)
        self.started.set()
        try:
            await call.receive()
        finally:
            self.ended.set()


@asynccontextmanager
async def serving(
    handler: Handler = echo_call, limits: Limits | None = None, address: str = LOCAL
) -> AsyncIterator[tuple[GrpcServer, str]]:
    server = GrpcServer({"/t/x": handler}, limits)
    try:
        yield server, await server.listen(address)
    finally:
        await server.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 -- polls what has no event
            await asyncio.sleep(0.005)


async def ask(address: str, message: bytes = b"hello") -> bytes:
    connection = await GrpcConnection.connect(address)
    try:
        call = await connection.open("/t/x")
        await call.send(message)
        return (await call.receive())[0]
    finally:
        await connection.close()


# Listening


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:0", "127.0.0.1:0", "tcp://[::1]:0", "tcp://localhost:0", "tcp://:0"]
)
async def test_the_port_is_filled_in(address: str) -> None:
    async with serving(address=address) as (_, bound):
        prefix, _, port = bound.rpartition(":")
        assert prefix == "tcp://" + address.removeprefix("tcp://").removesuffix(":0")
        assert int(port) > 0
        assert await ask(bound) == b"hello"


async def test_an_empty_host_is_both_families() -> None:
    async with serving(address="tcp://:0") as (_, bound):
        port = bound.rpartition(":")[2]
        assert await ask(f"127.0.0.1:{port}") == b"hello"
        assert await ask(f"[::1]:{port}") == b"hello"


async def test_the_limit_of_open_files_is_raised_as_far_as_allowed() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:
        async with serving(limits=Limits(max_connections=2000)):
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(3024, hard), hard)
        async with serving(limits=Limits(max_connections=10)):
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(3024, hard), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(("host", "peer"), [("127.0.0.1", r"127\.0\.0\.1:\d+"), ("[::1]", r"\[::1\]:\d+")])
async def test_the_peers_address_reads_well(host: str, peer: str) -> None:
    trace = Trace()
    async with serving(trace, address="tcp://:0") as (_, bound):
        connection = await GrpcConnection.connect(f"{host}:{bound.rpartition(':')[2]}")
        await connection.open("/t/x")
        await asyncio.wait_for(trace.started.wait(), 5)
        assert re.fullmatch(peer, trace.calls[0].peer)
        await connection.close()


async def test_several_addresses_at_once(tmp_path: Path) -> None:
    async with serving() as (server, first):
        second = await server.listen(f"unix://{tmp_path}/s")
        assert [await ask(first), await ask(second)] == [b"hello", b"hello"]


async def test_a_port_in_use() -> None:
    async with serving() as (_, bound):
        with pytest.raises(UserError, match=f"cannot listen on {bound}: .*already in use"):
            await GrpcServer({}).listen(bound)


@pytest.mark.parametrize("address", ["nonsense", "tcp://192.0.2.1:0", "unix:///nonexistent/dir/s"])
async def test_addresses_that_cannot_be(address: str) -> None:
    with pytest.raises(UserError, match=address.replace("[", r"\[")):
        await GrpcServer({}).listen(address)


async def test_a_unix_socket_is_for_the_group_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with serving(address=f"unix://{path}") as (_, bound):
        assert bound == f"unix://{path}"
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o770
        assert await ask(bound) == b"hello"
    with pytest.raises(FileNotFoundError):
        os.stat(path)


async def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    async with serving(address=f"unix://{path}") as (_, bound):
        assert await ask(bound) == b"hello"


async def test_a_live_unix_socket_is_left_alone(tmp_path: Path) -> None:
    async with serving(address=f"unix://{tmp_path}/s") as (_, bound):
        with pytest.raises(UserError, match="another process listens there"):
            await GrpcServer({}).listen(bound)
        assert await ask(bound) == b"hello"


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(UserError, match="is not a socket"):
        await GrpcServer({}).listen(f"unix://{path}")
    assert path.read_text() == "precious"


async def test_a_successors_unix_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with serving(address=f"unix://{path}"):
        path.unlink()
        successor = GrpcServer({"/t/x": echo_call})
        bound = await successor.listen(f"unix://{path}")
    assert await ask(bound) == b"hello"
    await successor.close()


# A client played frame by frame


class RawClient:
    """Speaks HTTP/2 by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._frames = FrameReader()
        self._decoder = HeaderDecoder(1 << 16)
        self._pending: list[Frame] = []

    def send(self, *frames: bytes) -> None:
        self._writer.writelines(frames)

    async def frame(self) -> Frame:
        """The next one that is not about the connection itself."""
        async with asyncio.timeout(5):
            while True:
                while self._pending:
                    frame = self._pending.pop(0)
                    if frame.type not in (f.SETTINGS, f.WINDOW_UPDATE):
                        return frame
                data = await self._reader.read(65_536)
                if not data:
                    raise EOFError
                self._pending += self._frames.feed(data)

    async def headers(self) -> HeaderList:
        frame = await self.frame()
        assert frame.type == f.HEADERS
        return self._decoder.decode(frame.payload)

    async def closed(self) -> list[Frame]:
        """What still comes until the server has closed the connection."""
        seen: list[Frame] = []
        try:
            while True:
                seen.append(await self.frame())
        except (EOFError, ConnectionError):
            return seen

    def abort(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def raw_client(address: str, *, greet: bool = True) -> AsyncIterator[RawClient]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    client = RawClient(reader, writer)
    if greet:
        client.send(f.PREFACE, f.settings({}))
    try:
        yield client
    finally:
        writer.close()


def request(*, stream_id: int = 1, path: bytes = b"/t/x", end: bool = False, **changes: bytes) -> bytes:
    fields = {b":method": b"POST", b":scheme": b"http", b":path": path, b"content-type": b"application/grpc"}
    fields |= {name.replace("_", "-").encode(): value for name, value in changes.items() if name != "method"}
    fields[b":method"] = changes.get("method", b"POST")
    return f.headers(stream_id, encode_block(fields.items()), end)


async def test_the_whole_answer_to_a_call() -> None:
    async with serving() as (_, address), raw_client(address) as client:
        client.send(request(), f.encode(f.DATA, f.END_STREAM, 1, frame(b"hello")))
        assert await client.headers() == [(b":status", b"200"), (b"content-type", b"application/grpc")]
        assert (await client.frame()).payload == frame(b"hello")
        assert await client.headers() == [(b"grpc-status", b"0")]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(method=b"GET"), b"405"),
        (request(content_type=b"text/html"), b"415"),
        (request(content_type=b"application/grpcsomething"), b"415"),
        (request(content_type=b""), b"415"),
    ],
)
async def test_what_is_not_grpc_gets_an_answer_of_http(sent: bytes, status: bytes) -> None:
    async with serving() as (_, address), raw_client(address) as client:
        client.send(sent)
        assert (await client.headers())[0] == (b":status", status)


@pytest.mark.parametrize(
    "content_type", [b"application/grpc", b"application/grpc+proto", b"application/grpc;charset=x"]
)
async def test_content_types_of_grpc(content_type: bytes) -> None:
    async with serving() as (_, address), raw_client(address) as client:
        client.send(request(content_type=content_type, end=True))
        assert (b"grpc-status", b"0") in await client.headers()


async def test_an_unknown_method_gets_trailers_only() -> None:
    async with serving() as (_, address), raw_client(address) as client:
        client.send(request(path=b"/t/other"))
        fields = await client.headers()
        assert fields[0] == (b":status", b"200")
        assert fields[2:] == [(b"grpc-status", b"12"), (b"grpc-message", b"unknown method /t/other")]


@pytest.mark.parametrize(
    "fields",
    [
        [(b":method", b"POST"), (b":scheme", b"http")],
        [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"")],
        [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/t/x"), (b":odd", b"1")],
        [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/t/x"), (b":path", b"/t/y")],
        [(b":method", b"POST"), (b":scheme", b"http"), (b"a", b"b"), (b":path", b"/t/x")],
        [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/t/x"), (b"Upper", b"x")],
        [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/t/x"), (b"connection", b"close")],
        [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/t/x"), (b"x", b"a\r\nb: c")],
        [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/t/x"), (b"te", b"gzip")],
    ],
)
async def test_malformed_requests_are_reset(fields: HeaderList) -> None:
    async with serving() as (_, address), raw_client(address) as client:
        client.send(f.headers(1, encode_block(fields), False))
        frame = await client.frame()
        assert (frame.type, ErrorCode.of(int.from_bytes(frame.payload, "big"))) == (
            f.RST_STREAM,
            ErrorCode.PROTOCOL_ERROR,
        )


async def test_a_malformed_timeout() -> None:
    async with serving() as (_, address), raw_client(address) as client:
        client.send(request(grpc_timeout=b"soon"))
        assert (b"grpc-status", b"13") in await client.headers()


async def test_a_client_that_speaks_something_else(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as (server, address), raw_client(address, greet=False) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [frame.type for frame in await client.closed()] == [f.GOAWAY]
        await until(lambda: server.connection_count == 0)
    assert "does not speak HTTP/2" in caplog.text


async def test_a_client_that_never_speaks() -> None:
    async with serving(limits=QUICK) as (_, address), raw_client(address, greet=False) as client:
        assert await client.closed() == []


async def test_rapid_reset_ends_the_connection_and_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    trace = Trace()
    async with serving(trace) as (server, address), raw_client(address) as client:
        for number in range(2000):
            client.send(request(stream_id=2 * number + 1), f.rst_stream(2 * number + 1, ErrorCode.CANCEL))
        await client.closed()
        await until(lambda: server.connection_count == 0)
    assert len(asyncio.all_tasks()) == 1
    assert "too many streams reset" in caplog.text


async def test_more_calls_than_allowed_on_a_connection() -> None:
    trace = Trace()
    limits = Limits(max_streams_per_connection=2)
    async with serving(trace, limits) as (_, address), raw_client(address) as client:
        client.send(*(request(stream_id=number) for number in (1, 3, 5)))
        frame = await client.frame()
        assert (frame.type, frame.stream_id) == (f.RST_STREAM, 5)
        assert len(trace.calls) == 2


async def test_more_connections_than_allowed(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(limits=Limits(max_connections=1)) as (server, address):
        first = await GrpcConnection.connect(address)
        for _ in range(3):
            with pytest.raises(ConnectionError):
                await GrpcConnection.connect(address)
        await first.close()
        await until(lambda: server.connection_count == 0)
        assert await ask(address) == b"hello"
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "refusing connections: there are 1, as many as allowed"
    ]


async def test_a_tls_handshake_that_never_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = CertificateAuthority(tmp_path)
    brain = authority.issue("brain", "IP:127.0.0.1")
    server = GrpcServer({"/t/x": echo_call}, QUICK)
    caplog.set_level("INFO")
    address = await server.listen(LOCAL, server_context(brain.key, brain.certificate, authority.certificate))
    async with raw_client(address, greet=False) as client:
        await until(lambda: server.connection_count == 1)
        await until(lambda: server.connection_count == 0)
        assert await client.closed() == []
    await server.close()
    assert "handshake failed: SSL handshake is taking longer than 0.3 seconds" in caplog.text


# Clients that leave, die or do not read


@pytest.mark.parametrize("end", ["reset", "abort"])
async def test_a_client_that_leaves_cancels_its_handler(end: str) -> None:
    trace = Trace()
    async with serving(trace) as (_, address), raw_client(address) as client:
        client.send(request())
        await asyncio.wait_for(trace.started.wait(), 5)
        if end == "reset":
            client.send(f.rst_stream(1, ErrorCode.CANCEL))
        else:
            client.abort()
        await asyncio.wait_for(trace.ended.wait(), 5)


async def test_a_client_that_is_dead_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    trace = Trace()
    async with serving(trace, QUICK) as (server, address), raw_client(address) as client:
        client.send(request())
        await asyncio.wait_for(trace.ended.wait(), 5)
        assert server.connection_count == 0
        assert [frame.type for frame in await client.closed()] == [f.PING]
    assert "no sign of life" in caplog.text


async def test_an_idle_client_that_answers_pings_is_kept() -> None:
    trace = Trace()
    async with serving(trace, QUICK) as (_, address):
        connection = await GrpcConnection.connect(address)
        await connection.open("/t/x")
        await asyncio.sleep(0.8)
        assert not trace.ended.is_set()
        await connection.close()


async def test_sending_waits_for_a_client_that_does_not_read() -> None:
    sent: list[int] = []

    async def endless(call: ServerCall) -> None:
        for number in range(10_000):
            await call.send([frame(bytes(10_000))])
            sent.append(number)

    async with serving(endless) as (_, address), raw_client(address) as client:
        client.send(request())
        await until(lambda: bool(sent))
        await asyncio.sleep(0.05)
        assert len(sent) == 6  # the default window of 65,535 bytes holds no seventh
        client.send(f.window_update(1, 40_000), f.window_update(0, 40_000))
        await until(lambda: len(sent) == 10)


async def test_requests_nobody_takes_fill_the_window_and_no_more() -> None:
    trace = Trace()

    async def deaf(call: ServerCall) -> None:
        trace.calls.append(call)
        await asyncio.sleep(60)

    async with serving(deaf) as (_, address), raw_client(address) as client:
        client.send(request(), *[f.encode(f.DATA, 0, 1, frame(bytes(16_000)))] * 5)
        frame_seen = await client.frame()
        assert frame_seen == (f.RST_STREAM, 0, 1, ErrorCode.FLOW_CONTROL_ERROR.to_bytes(4, "big"))


async def test_a_deadline_passes_while_sending() -> None:
    async def endless(call: ServerCall) -> None:
        while True:
            await call.send([bytes(10_000)])

    async with serving(endless) as (_, address), raw_client(address) as client:
        client.send(request(grpc_timeout=b"50m"))
        frame_seen = await client.frame()
        while frame_seen.type in (f.HEADERS, f.DATA):
            frame_seen = await client.frame()
        assert frame_seen.type == f.RST_STREAM


# Closing


async def test_closing_says_goaway_and_a_status() -> None:
    trace = Trace()
    async with serving(trace) as (server, address), raw_client(address) as client:
        client.send(request())
        await asyncio.wait_for(trace.started.wait(), 5)
        await server.close()
        seen = await client.closed()
        assert [frame.type for frame in seen] == [f.GOAWAY, f.HEADERS, f.RST_STREAM]
        assert b"grpc-status\x0214" in seen[1].payload


async def test_closing_does_not_wait_for_those_that_hang_on() -> None:
    async def stubborn(call: ServerCall) -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if call.is_gone:
                    raise

    async with serving(stubborn) as (server, address), raw_client(address) as client:
        client.send(request())
        await until(lambda: server.connection_count == 1)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(2):
            await server.close(grace_seconds=0.1)


async def test_after_closing_nobody_listens() -> None:
    async with serving() as (server, address):
        await server.close()
        with pytest.raises(ConnectionError, match="Connection refused"):
            await GrpcConnection.connect(address)


# Both sides ours, on both event loops


async def scenario_many_idle_calls(count: int = 1000) -> None:
    """Watchers that wait, woken all at once by one shared buffer."""
    go = asyncio.Event()
    shared = frame(b"changed")

    async def watch(call: ServerCall) -> None:
        while await call.receive() is not None:
            await go.wait()
            await call.send([shared])

    async with serving(watch, Limits(max_streams_per_connection=count)) as (_, address):
        connection = await GrpcConnection.connect(address)
        calls = [await connection.open("/t/x") for _ in range(count)]
        for call in calls:
            await call.send(b"")
        go.set()
        for call in calls:
            assert await call.receive() == [b"changed"]
        await connection.close()


async def scenario_thirty_megabytes() -> None:
    """One shared blob to several clients, through back-pressure of the transport and of the windows."""
    blob = [frame(b"x" * 995) * 1000] * 30

    async def send_all(call: ServerCall) -> None:
        await call.send(blob)

    async def take_all(address: str) -> int:
        connection = await GrpcConnection.connect(address)
        call = await connection.open("/t/x")
        await call.half_close()
        received = 0
        try:
            while True:
                messages = await call.receive()
                assert set(map(len, messages)) == {995}
                received += len(messages)
        except EndOfStream:
            return received
        finally:
            await connection.close()

    async with serving(send_all) as (_, address):
        assert await asyncio.gather(*(take_all(address) for _ in range(3))) == [30_000] * 3


async def scenario_large_requests() -> None:
    async with serving() as (_, address):
        message = bytes(range(256)) * 10_000
        connection = await GrpcConnection.connect(address)
        call = await connection.open("/t/x")
        for _ in range(3):
            await call.send(message)
            assert await call.receive() == [message]
        await connection.close()


async def scenario_failures() -> None:
    async def refuse(call: ServerCall) -> None:
        await call.send([frame(b"one")])
        raise GrpcError(GrpcStatus.NOT_FOUND, "nö")

    async with serving(refuse) as (_, address):
        connection = await GrpcConnection.connect(address)
        for _ in range(300):
            call = await connection.open("/t/x")
            assert await call.receive() == [b"one"]
            with pytest.raises(GrpcError, match="NOT_FOUND: nö"):
                await call.receive()
        await connection.close()


async def scenario_mutual_tls() -> None:
    """Large answers over TLS, who the client is, and what a stranger is told."""
    with tempfile.TemporaryDirectory() as directory:
        authority = CertificateAuthority(Path(directory))
        brain, node = authority.issue("brain", "IP:127.0.0.1"), authority.issue("node-a")
        context = client_context(node.key, node.certificate, authority.certificate)
        stranger = client_context(None, None, authority.certificate)
        tls = server_context(brain.key, brain.certificate, authority.certificate)

    async def name_and_blob(call: ServerCall) -> None:
        assert call.peer_certificate is not None
        name = dict(part[0] for part in call.peer_certificate["subject"])["commonName"]
        await call.send([frame(name.encode()), *[frame(bytes(1000))] * 10_000])

    server = GrpcServer({"/t/x": name_and_blob})
    address = await server.listen(LOCAL, tls)
    connection = await GrpcConnection.connect(address, context)
    call = await connection.open("/t/x")
    messages: list[bytes] = []
    while len(messages) < 10_001:
        messages += await call.receive()
    assert messages[0] == b"node-a"
    for unwelcome, reason in ((stranger, "it may not accept our certificate"), (None, "closed by the peer")):
        with pytest.raises(ConnectionError, match=reason):
            await GrpcConnection.connect(address, unwelcome, connect_seconds=5)
    await connection.close()
    await server.close()


SCENARIOS = [
    scenario_mutual_tls,
    scenario_many_idle_calls,
    scenario_thirty_megabytes,
    scenario_large_requests,
    scenario_failures,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_both_sides(loop: str, scenario: Callable[[], Awaitable[None]]) -> None:
    import uvloop  # noqa: PLC0415 -- beside the loop that the other tests run on

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(scenario(), 30))  # type: ignore[arg-type]
