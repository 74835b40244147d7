"""Our client against the reference implementation's server (grpcio), and against servers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from kpng.client.grpc import ClientCall, EndOfStream, GrpcConnection
from kpng.lab.certificates import CertificateAuthority
from kpng.model import UserError
from kpng.wire.grpc import GrpcError, GrpcStatus
from kpng.wire.http2 import ErrorCode, Keepalive, encode_block
from kpng.wire.http2 import frames as f
from kpng.wire.tls import client_context

Context = grpc.aio.ServicerContext[bytes, bytes]


async def grpcio_echo(requests: AsyncIterator[bytes], _: Context) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def grpcio_many(requests: AsyncIterator[bytes], _: Context) -> AsyncIterator[bytes]:
    async for request in requests:
        for _number in range(int(request)):
            yield bytes(30_000)


async def grpcio_refuse(_requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
    yield b"first"
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "zu früh %")


async def grpcio_metadata(_requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
    metadata = dict(context.invocation_metadata() or ())
    yield str(metadata["x-node"]).encode()


class Methods(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        behaviour = {
            "/t/echo": grpcio_echo,
            "/t/many": grpcio_many,
            "/t/refuse": grpcio_refuse,
            "/t/metadata": grpcio_metadata,
        }.get(details.method)
        return grpc.stream_stream_rpc_method_handler(behaviour) if behaviour else None  # type: ignore[arg-type]


@asynccontextmanager
async def grpcio_server(credentials: grpc.ServerCredentials | None = None, unix: str = "") -> AsyncIterator[str]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Methods(),))
    if unix:
        server.add_insecure_port(f"unix:{unix}")
        address = f"unix://{unix}"
    elif credentials is not None:
        address = f"localhost:{server.add_secure_port('127.0.0.1:0', credentials)}"
    else:
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield address
    finally:
        await server.stop(None)


@asynccontextmanager
async def connected(address: str, **options: Any) -> AsyncIterator[GrpcConnection]:
    connection = await GrpcConnection.connect(address, **options)
    try:
        yield connection
    finally:
        await connection.close()


async def receive_exactly(call: ClientCall, count: int) -> list[bytes]:
    messages: list[bytes] = []
    while len(messages) < count:
        messages += await call.receive()
    return messages


async def test_messages_go_both_ways() -> None:
    async with grpcio_server() as address, connected(address) as connection:
        call = await connection.open("/t/echo")
        for message in (b"", b"a", bytes(100_000), b"z" * 3_000_000):
            await call.send(message)
            assert await call.receive() == [message]
        await call.half_close()
        with pytest.raises(EndOfStream):
            await call.receive()


async def test_several_calls_on_one_connection() -> None:
    async with grpcio_server() as address, connected(address) as connection:
        calls = [await connection.open("/t/echo") for _ in range(20)]
        for number, call in enumerate(calls):
            await call.send(b"%d" % number)
        assert [await call.receive() for call in calls] == [[b"%d" % number] for number in range(20)]


@pytest.mark.slow
async def test_thirty_megabytes() -> None:
    async with grpcio_server() as address, connected(address) as connection:
        call = await connection.open("/t/many")
        await call.send(b"1000")
        assert await receive_exactly(call, 1000) == [bytes(30_000)] * 1000


async def test_messages_before_a_failure_are_not_lost() -> None:
    async with grpcio_server() as address, connected(address) as connection:
        call = await connection.open("/t/refuse")
        assert await call.receive() == [b"first"]
        for _ in range(2):
            with pytest.raises(GrpcError) as caught:
                await call.receive()
            assert (caught.value.status, caught.value.message) == (GrpcStatus.FAILED_PRECONDITION, "zu früh %")


async def test_an_unknown_method() -> None:
    async with grpcio_server() as address, connected(address) as connection:
        call = await connection.open("/t/nothing")
        with pytest.raises(GrpcError) as caught:
            await call.receive()
        assert caught.value.status is GrpcStatus.UNIMPLEMENTED


async def test_metadata() -> None:
    async with grpcio_server() as address, connected(address) as connection:
        call = await connection.open("/t/metadata", {"X-Node": "node-a"})
        assert await call.receive() == [b"node-a"]


async def test_a_cancelled_call_leaves_the_connection_alone() -> None:
    async with grpcio_server() as address, connected(address) as connection:
        call, other = await connection.open("/t/echo"), await connection.open("/t/echo")
        waiting = asyncio.create_task(call.receive())
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(GrpcError, match="CANCELLED"):
            await waiting
        with pytest.raises(GrpcError, match="CANCELLED"):
            await call.send(b"x")
        await other.send(b"x")
        assert await other.receive() == [b"x"]


async def test_a_unix_socket(tmp_path: Path) -> None:
    async with grpcio_server(unix=str(tmp_path / "s")) as address, connected(address) as connection:
        call = await connection.open("/t/echo")
        await call.send(b"x")
        assert await call.receive() == [b"x"]


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path)


def contents(*names: str) -> list[bytes]:
    return [Path(name).read_bytes() for name in names]


async def test_mutual_tls(authority: CertificateAuthority) -> None:
    theirs, ours = authority.issue("brain", "DNS:localhost"), authority.issue("node-a")
    key, certificate, ca = contents(theirs.key, theirs.certificate, authority.certificate)
    credentials = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
    async with grpcio_server(credentials) as address:
        context = client_context(ours.key, ours.certificate, authority.certificate)
        async with connected(address, tls=context) as connection:
            call = await connection.open("/t/echo")
            await call.send(b"x")
            assert await call.receive() == [b"x"]
        with pytest.raises(ConnectionError, match=r"it may not accept our certificate|TLS: .*certificate"):
            await GrpcConnection.connect(address, client_context(None, None, authority.certificate))


async def test_the_servers_name_is_verified(authority: CertificateAuthority) -> None:
    theirs = authority.issue("brain", "DNS:elsewhere")
    credentials = grpc.ssl_server_credentials([tuple(contents(theirs.key, theirs.certificate))])
    async with grpcio_server(credentials) as address:
        with pytest.raises(ConnectionError, match="certificate is not accepted: Hostname mismatch"):
            await GrpcConnection.connect(address, client_context(None, None, authority.certificate))


# Servers that misbehave

REQUEST_SEEN = b"/t/x"
OK_HEADERS = encode_block([(b":status", b"200"), (b"content-type", b"application/grpc")])
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def playing(script: Script) -> AsyncIterator[str]:
    """A server that follows a script and then keeps the connection open."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await script(reader, writer)
        await done.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        done.set()
        server.close()
        await server.wait_closed()


def answering(*frames: bytes) -> Script:
    """Waits for the request on stream 1 and answers with these frames."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f.settings({}))
        await reader.readuntil(REQUEST_SEEN)
        writer.writelines(frames)

    return script


def header_frame(*fields: tuple[bytes, bytes], end: bool = False) -> bytes:
    return f.headers(1, encode_block(fields), end)


ANSWERS: dict[str, tuple[list[bytes], GrpcStatus]] = {
    "not gRPC": ([header_frame((b":status", b"200"), (b"content-type", b"text/html"))], GrpcStatus.UNKNOWN),
    "HTTP 404": ([header_frame((b":status", b"404"))], GrpcStatus.UNIMPLEMENTED),
    "HTTP 503": ([header_frame((b":status", b"503"), end=True)], GrpcStatus.UNAVAILABLE),
    "HTTP 418": ([header_frame((b":status", b"418"), end=True)], GrpcStatus.UNKNOWN),
    "no status in the trailers": ([f.headers(1, OK_HEADERS, True)], GrpcStatus.UNKNOWN),
    "status unheard of": (
        [f.headers(1, OK_HEADERS + encode_block([(b"grpc-status", b"77")]), True)],
        GrpcStatus.UNKNOWN,
    ),
    "end without trailers": (
        [f.headers(1, OK_HEADERS, False), f.encode(f.DATA, f.END_STREAM, 1)],
        GrpcStatus.INTERNAL,
    ),
    "compressed message": (
        [f.headers(1, OK_HEADERS, False), f.encode(f.DATA, 0, 1, b"\x01\x00\x00\x00\x01x")],
        GrpcStatus.UNIMPLEMENTED,
    ),
    "message too large": (
        [f.headers(1, OK_HEADERS, False), f.encode(f.DATA, 0, 1, b"\x00\xff\x00\x00\x00x")],
        GrpcStatus.RESOURCE_EXHAUSTED,
    ),
    "message cut off, status OK": (
        [
            f.headers(1, OK_HEADERS, False),
            f.encode(f.DATA, 0, 1, b"\x00\x00\x00\x00\x09half"),
            header_frame((b"grpc-status", b"0"), end=True),
        ],
        GrpcStatus.INTERNAL,
    ),
    "malformed headers": ([header_frame((b":status", b"200"), (b"Upper", b"x"))], GrpcStatus.INTERNAL),
    "pseudo-header in trailers": (
        [f.headers(1, OK_HEADERS, False), header_frame((b"grpc-status", b"0"), (b":path", b"/"), end=True)],
        GrpcStatus.INTERNAL,
    ),
    "refused": ([f.rst_stream(1, ErrorCode.REFUSED_STREAM)], GrpcStatus.UNAVAILABLE),
    "cancelled": ([f.rst_stream(1, ErrorCode.CANCEL)], GrpcStatus.CANCELLED),
    "calm": ([f.rst_stream(1, ErrorCode.ENHANCE_YOUR_CALM)], GrpcStatus.RESOURCE_EXHAUSTED),
    "reset": ([f.rst_stream(1, ErrorCode.INTERNAL_ERROR)], GrpcStatus.INTERNAL),
    "going away": ([f.goaway(0, ErrorCode.NO_ERROR, "bye")], GrpcStatus.UNAVAILABLE),
}


@pytest.mark.parametrize(("frames", "status"), ANSWERS.values(), ids=ANSWERS)
async def test_how_answers_are_read(frames: list[bytes], status: GrpcStatus) -> None:
    async with playing(answering(*frames)) as address, connected(address) as connection:
        call = await connection.open(REQUEST_SEEN.decode())
        with pytest.raises(GrpcError) as caught:
            await asyncio.wait_for(call.receive(), 5)
    assert caught.value.status is status


async def test_informational_headers_are_passed_over() -> None:
    frames = [
        header_frame((b":status", b"103")),
        f.headers(1, OK_HEADERS, False),
        f.encode(f.DATA, 0, 1, b"\x00\x00\x00\x00\x01x"),
        header_frame((b"grpc-status", b"0"), end=True),
    ]
    async with playing(answering(*frames)) as address, connected(address) as connection:
        call = await connection.open(REQUEST_SEEN.decode())
        assert await call.receive() == [b"x"]
        with pytest.raises(EndOfStream):
            await call.receive()


async def test_after_goaway_no_call_can_be_opened() -> None:
    frames = [f.headers(1, OK_HEADERS, False), f.goaway(1, ErrorCode.NO_ERROR, "maintenance")]
    frames.append(f.encode(f.DATA, 0, 1, b"\x00\x00\x00\x00\x01x"))
    async with playing(answering(*frames)) as address, connected(address) as connection:
        call = await connection.open(REQUEST_SEEN.decode())
        assert await call.receive() == [b"x"]
        assert not connection.is_open
        with pytest.raises(ConnectionError, match="maintenance"):
            await connection.open("/t/y")


async def test_no_more_calls_than_the_server_allows() -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f.settings({f.MAX_CONCURRENT_STREAMS: 1}))

    async with playing(script) as address, connected(address) as connection:
        await connection.open("/t/x")
        with pytest.raises(GrpcError, match="RESOURCE_EXHAUSTED"):
            await connection.open("/t/x")


async def test_a_connection_that_breaks_ends_its_calls() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f.settings({}))
        await reader.readuntil(REQUEST_SEEN)
        writer.transport.abort()

    async with playing(script) as address, connected(address) as connection:
        call = await connection.open(REQUEST_SEEN.decode())
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(call.receive(), 5)
        with pytest.raises(ConnectionError):
            await connection.open("/t/x")


async def test_closing_ends_the_calls() -> None:
    async with playing(answering()) as address:
        connection = await GrpcConnection.connect(address)
        call = await connection.open(REQUEST_SEEN.decode())
        await connection.close()
        with pytest.raises(ConnectionError, match=f"tcp://{address}: connection closed$"):
            await call.receive()


async def test_a_server_that_falls_silent_is_given_up() -> None:
    keepalive = Keepalive(handshake_seconds=0.05, idle_seconds=0.05, timeout_seconds=0.05)
    async with playing(answering()) as address, connected(address, keepalive=keepalive) as connection:
        call = await connection.open(REQUEST_SEEN.decode())
        with pytest.raises(ConnectionError, match=f"tcp://{address}: the peer gives no sign of life"):
            await asyncio.wait_for(call.receive(), 5)


async def test_a_quiet_server_that_answers_pings_is_kept() -> None:
    keepalive = Keepalive(handshake_seconds=0.02, idle_seconds=0.02, timeout_seconds=0.2)
    async with grpcio_server() as address, connected(address, keepalive=keepalive) as connection:
        call = await connection.open("/t/echo")
        await asyncio.sleep(0.3)
        await call.send(b"still there")
        assert await call.receive() == [b"still there"]


async def silence(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Accepts, and says nothing."""


async def test_a_server_that_never_speaks() -> None:
    async with playing(silence) as address:
        with pytest.raises(TimeoutError, match=r"no answer within 0.1 s"):
            await GrpcConnection.connect(address, connect_seconds=0.1)


async def test_a_server_that_speaks_something_else() -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with playing(script) as address:
        with pytest.raises(ConnectionError, match=f"tcp://{address}: .*the peer does not speak HTTP/2"):
            await GrpcConnection.connect(address)


async def test_nobody_listens(tmp_path: Path) -> None:
    for address, reason in (
        ("tcp://127.0.0.1:1", "Connection refused"),
        (f"unix://{tmp_path}/nothing", "No such file or directory"),
    ):
        with pytest.raises(ConnectionError) as caught:
            await GrpcConnection.connect(address)
        assert str(caught.value) == f"{address}: {reason}"
    with pytest.raises(UserError):
        await GrpcConnection.connect("nonsense")
