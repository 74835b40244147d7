"""The server as the reference implementation of gRPC sees it: grpcio, asynchronous and blocking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from kpng.lab.certificates import CertificateAuthority
from kpng.server.grpc import GrpcServer, Handler, Limits, ServerCall
from kpng.wire.grpc import GrpcError, GrpcStatus, frame
from kpng.wire.tls import server_context

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


async def echo(call: ServerCall) -> None:
    """Answers each message, until the client ends."""
    while (message := await call.receive()) is not None:
        await call.send([frame(message)])


async def blob(call: ServerCall) -> None:
    """As many messages of 1,000 bytes as asked for, from one shared buffer, in one go."""
    count = int(await call.receive() or b"0")
    shared = frame(bytes(1000))
    await call.send([shared] * count)


async def refuse(call: ServerCall) -> None:
    raise GrpcError(GrpcStatus.PERMISSION_DENIED, "nicht für dich\n100 %")


async def late_refuse(call: ServerCall) -> None:
    await call.send([frame(b"one")])
    raise GrpcError(GrpcStatus.ABORTED, "enough")


async def crash(call: ServerCall) -> None:
    raise ZeroDivisionError("secret detail")


async def who(call: ServerCall) -> None:
    certificate = call.peer_certificate or {}
    name = dict(part[0] for part in certificate.get("subject", ())).get("commonName", "")
    await call.send([frame(f"{call.path} {call.metadata.get('x-name')} {name}".encode())])


HANDLERS: dict[str, Handler] = {
    "/test/echo": echo,
    "/test/blob": blob,
    "/test/refuse": refuse,
    "/test/late": late_refuse,
    "/test/crash": crash,
    "/test/who": who,
}


@asynccontextmanager
async def serving(limits: Limits | None = None, handlers: dict[str, Handler] = HANDLERS) -> AsyncIterator[str]:
    server = GrpcServer(handlers, limits)
    address = await server.listen("tcp://127.0.0.1:0")
    try:
        yield address.removeprefix("tcp://")
    finally:
        await server.close()


@asynccontextmanager
async def call_of(address: str, path: str) -> AsyncIterator[grpc.aio.StreamStreamCall[bytes, bytes]]:
    async with grpc.aio.insecure_channel(address, options=UNLIMITED) as channel:
        yield channel.stream_stream(path)()


async def read_all(call: grpc.aio.StreamStreamCall[bytes, bytes]) -> list[bytes]:
    messages = []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    return messages


async def failure_of(call: grpc.aio.StreamStreamCall[bytes, bytes]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_all(call)
    return caught.value


async def test_messages_go_both_ways() -> None:
    async with serving() as address, call_of(address, "/test/echo") as call:
        for message in (b"", b"a", bytes(100_000), b"z" * 3_000_000):
            await call.write(message)
            assert await call.read() == message
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_many_messages_before_the_first_answer() -> None:
    async with serving() as address, call_of(address, "/test/echo") as call:
        for number in range(500):
            await call.write(b"%d" % number)
        await call.done_writing()
        assert [await call.read() for _ in range(500)] == [b"%d" % number for number in range(500)]


async def test_a_unary_call() -> None:
    async with serving() as address, grpc.aio.insecure_channel(address) as channel:
        assert await channel.unary_unary("/test/echo")(b"hello") == b"hello"


async def test_many_calls_on_one_connection() -> None:
    async with serving() as address, grpc.aio.insecure_channel(address) as channel:
        method = channel.unary_unary("/test/echo")
        answers = await asyncio.gather(*(method(b"%d" % number) for number in range(100)))
        assert list(answers) == [b"%d" % number for number in range(100)]


@pytest.mark.slow
async def test_a_big_transfer_of_small_buffers() -> None:
    async with serving() as address, call_of(address, "/test/blob") as call:
        await call.write(b"10000")
        assert await read_all(call) == [bytes(1000)] * 10_000
        assert await call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("path", "code", "details"),
    [
        ("/test/refuse", grpc.StatusCode.PERMISSION_DENIED, "nicht für dich\n100 %"),
        ("/test/late", grpc.StatusCode.ABORTED, "enough"),
        ("/test/nothing", grpc.StatusCode.UNIMPLEMENTED, "unknown method /test/nothing"),
    ],
)
async def test_how_calls_fail(path: str, code: grpc.StatusCode, details: str) -> None:
    async with serving() as address, call_of(address, path) as call:
        failure = await failure_of(call)
    assert (failure.code(), failure.details()) == (code, details)


async def test_what_went_wrong_inside_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as address, call_of(address, "/test/crash") as call:
        failure = await failure_of(call)
    assert (failure.code(), failure.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert [record.message.partition(": ")[2] for record in caplog.records] == ["/test/crash failed"]
    assert "secret detail" in caplog.text


async def test_metadata_and_path() -> None:
    async with serving() as address, grpc.aio.insecure_channel(address) as channel:
        method = channel.stream_stream("/test/who")
        call = method(metadata=(("x-name", "node-a"),))
        assert await call.read() == b"/test/who node-a "


async def test_a_message_over_the_limit() -> None:
    async with serving(Limits(max_message_bytes=1000)) as address, call_of(address, "/test/echo") as call:
        await call.write(bytes(1000))
        assert await call.read() == bytes(1000)
        await call.write(bytes(1001))
        assert (await failure_of(call)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_compressed_messages_are_refused() -> None:
    async with (
        serving() as address,
        grpc.aio.insecure_channel(address, compression=grpc.Compression.Gzip) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test/echo")(bytes(10_000))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_deadline_ends_the_handler() -> None:
    ended = asyncio.Event()

    async def idle(call: ServerCall) -> None:
        try:
            await call.receive()
        finally:
            ended.set()

    async with serving(handlers={"/test/idle": idle}) as address, grpc.aio.insecure_channel(address) as channel:
        failure = await failure_of(channel.stream_stream("/test/idle")(timeout=0.1))
        assert failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.parametrize("end", ["cancel", "close"])
async def test_a_client_that_leaves_ends_the_handler(end: str) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def idle(call: ServerCall) -> None:
        started.set()
        try:
            await call.receive()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(handlers={"/test/idle": idle}) as address:
        channel = grpc.aio.insecure_channel(address)
        call = channel.stream_stream("/test/idle")()
        await asyncio.wait_for(started.wait(), 5)
        if end == "cancel":
            call.cancel()
        else:
            await channel.close()
        await asyncio.wait_for(cancelled.wait(), 5)
        await channel.close()


async def test_a_server_that_closes_tells_its_clients() -> None:
    server = GrpcServer(HANDLERS)
    address = await server.listen("tcp://127.0.0.1:0")
    async with call_of(address.removeprefix("tcp://"), "/test/echo") as call:
        await call.write(b"x")
        assert await call.read() == b"x"
        await server.close()
        failure = await failure_of(call)
    assert (failure.code(), failure.details()) == (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")


async def test_a_unix_socket(tmp_path: Path) -> None:
    server = GrpcServer(HANDLERS)
    address = await server.listen(f"unix://{tmp_path}/kpng.sock")
    async with grpc.aio.insecure_channel(address.replace("unix://", "unix:")) as channel:
        assert await channel.unary_unary("/test/echo")(b"hello") == b"hello"
    await server.close()


async def test_mutual_tls(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = CertificateAuthority(tmp_path)
    ours, theirs = authority.issue("brain", "DNS:localhost"), authority.issue("node-a")
    server = GrpcServer(HANDLERS)
    address = await server.listen(
        "tcp://127.0.0.1:0", server_context(ours.key, ours.certificate, authority.certificate)
    )
    port = address.rpartition(":")[2]
    key, certificate, ca = map(read, (theirs.key, theirs.certificate, authority.certificate))
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        call = channel.stream_stream("/test/who")(metadata=(("x-name", "node-a"),))
        assert await call.read() == b"/test/who node-a node-a"
    async with grpc.aio.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(ca)) as channel:
        failure = await failure_of(channel.stream_stream("/test/who")())
        assert failure.code() is grpc.StatusCode.UNAVAILABLE
    await server.close()
    assert "handshake failed: peer did not return a certificate" in caplog.text


def read(name: str) -> bytes:
    return Path(name).read_bytes()


def blocking_client(address: str) -> tuple[list[bytes], grpc.StatusCode, str]:
    """grpcio's blocking side, as a Python client of the Go kpng would use it."""
    with grpc.insecure_channel(address) as channel:
        call = channel.stream_stream("/test/echo")(iter([b"a", b"b", b"c"]))
        answers = list(call)
        return answers, call.code(), call.details()


async def test_the_blocking_client() -> None:
    async with serving() as address:
        answers, code, _ = await asyncio.to_thread(blocking_client, address)
    assert answers == [b"a", b"b", b"c"]
    assert code is grpc.StatusCode.OK
