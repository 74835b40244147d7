"""A gRPC client on asyncio that hands over all messages that have arrived at once."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping, Sequence

from kpng.wire.address import TcpAddress, UnixAddress, bracketed, parse_address
from kpng.wire.grpc import MAX_MESSAGE_BYTES, GrpcError, GrpcStatus, frame
from kpng.wire.grpc_stream import GrpcStream
from kpng.wire.http2 import ErrorCode, Keepalive, encode_block
from kpng.wire.tls import handshake_fault

from ._connection import ClientConnection
from .servers import SocketAddress
from .servers import resolve as _resolve

__all__ = ["ClientCall", "EndOfStream", "GrpcConnection"]

_USER_AGENT = b"kpng-python"


class EndOfStream(EOFError):  # noqa: N818 -- not a failure: the server ended the call with OK
    """The server has ended the call with status OK."""


class GrpcConnection:
    """One HTTP/2 connection, for any number of calls. It does not reconnect."""

    def __init__(self, connection: ClientConnection, authority: str, scheme: str) -> None:
        self._connection = connection
        self._request = [
            (b":method", b"POST"),
            (b":scheme", scheme.encode()),
            (b":authority", authority.encode()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"user-agent", _USER_AGENT),
        ]

    @classmethod
    async def connect(
        cls,
        address: str,
        tls: ssl.SSLContext | None = None,
        *,
        connect_seconds: float = 10,
        keepalive: Keepalive | None = None,
        at: Sequence[SocketAddress] = (),
    ) -> GrpcConnection:
        """Connect to "127.0.0.1:12090", "name:port", "tcp://[::1]:1" or "unix:///path".

        ``at``: where that is, for a caller who knows; else the address is looked up.

        Returns when the server has shown that it speaks HTTP/2. Raises `UserError` on a malformed address, and
        TimeoutError or ConnectionError, in one clear line, if there is no such server or it does not want us.
        """
        target = parse_address(address)
        keepalive = keepalive or Keepalive(handshake_seconds=connect_seconds)
        connection = ClientConnection(keepalive, str(target))
        connected = False
        try:
            async with asyncio.timeout(connect_seconds):
                places = at or await _resolve(target)
                sock = await _connect_socket(places, connect_seconds)
                await _open_transport(connection, sock, target, tls, keepalive)
                await connection.settled
            connected = True
        except TimeoutError as error:
            raise TimeoutError(f"{target}: no answer within {connect_seconds:g} s") from error
        except OSError as error:
            raise ConnectionError(f"{target}: {connection.fault or _reason(error, tls is not None)}") from error
        finally:
            if not connected:  # also where it was, and the task was cancelled at that very moment
                connection.abort()
        return cls(connection, _authority(target), "https" if tls else "http")

    @property
    def going_away(self) -> asyncio.Event:
        """Set when the server has said that it wants no new calls; those that run go on for a while."""
        return self._connection.going_away

    @property
    def is_open(self) -> bool:
        """Whether new calls can be opened."""
        return self._connection.refusal is None and self._connection.is_open

    async def open(self, path: str, metadata: Mapping[str, str] | None = None) -> ClientCall:
        """Start a call of the method ``path``, such as "/localv1.Sets/Watch".

        Raises ConnectionError when the connection is gone or going, `GrpcError` (RESOURCE_EXHAUSTED) when the
        server allows no further call on it.
        """
        connection = self._connection
        if not self.is_open:
            raise ConnectionError(connection.refusal or f"{connection.peer}: closed")
        if connection.core.stream_count >= connection.core.peer_max_streams:
            raise GrpcError(GrpcStatus.RESOURCE_EXHAUSTED, "as many calls as the server allows on a connection")
        fields = [(b":path", path.encode()), *self._request]
        fields += [(name.lower().encode(), value.encode()) for name, value in (metadata or {}).items()]
        stream_id = connection.core.open(encode_block(fields))
        call = connection.calls[stream_id] = ClientCall(connection, stream_id)
        connection.flush()
        return call

    async def close(self) -> None:
        """Say GOAWAY and close; calls still open end with ConnectionError."""
        self._connection.core.close(ErrorCode.NO_ERROR)
        self._connection.flush()
        self._connection.close()
        await self._connection.closed.wait()


class ClientCall(GrpcStream):
    """One call. At most one task may send and one receive."""

    __slots__ = ("_client",)

    def __init__(self, connection: ClientConnection, stream_id: int) -> None:
        super().__init__(connection, stream_id, MAX_MESSAGE_BYTES)
        self._client = connection

    async def send(self, message: bytes) -> None:
        """Send one message (unframed); waits while the connection is not able to take it."""
        await self._send([frame(message)])

    async def receive(self) -> list[bytes]:
        """All messages that have arrived, at least one.

        After the last one: raises `EndOfStream` if the server ended the call with OK, `GrpcError` with any other
        status, ConnectionError if the connection was lost.
        """
        if not await self._wait_readable():
            raise EndOfStream("OK")
        messages, self._inbox = self._inbox, []
        self._release()
        return messages

    async def half_close(self) -> None:
        """Nothing more will be sent; the server may go on."""
        self._connection.core.finish(self.stream_id)
        self._connection.flush()

    def cancel(self) -> None:
        """End the call at once, whatever its state; `receive` raises `GrpcError` (CANCELLED) from here on."""
        self._client.end(self.stream_id, GrpcError(GrpcStatus.CANCELLED, "cancelled by the caller"))
        self._client.flush()


async def _open_transport(
    connection: ClientConnection,
    sock: socket.socket,
    target: TcpAddress | UnixAddress,
    tls: ssl.SSLContext | None,
    keepalive: Keepalive,
) -> None:
    """With TLS, shake hands."""
    name = (target.host if isinstance(target, TcpAddress) else "") or "localhost"
    keepalive.tune(sock)
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: connection, sock=sock, ssl=tls, server_hostname=name if tls else None)


async def _connect_socket(addresses: Sequence[SocketAddress], seconds: float) -> socket.socket:
    """The first address that answers, each within its share of the time; the last one's error if none does."""
    failure = OSError("the name has no address")
    for family, address in addresses:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(seconds / len(addresses)):
                await asyncio.get_running_loop().sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


def _reason(error: OSError, tls: bool) -> str:
    """Why connecting failed, for people; the classes' own texts hold numbers, or nothing."""
    if isinstance(error, ssl.SSLError):
        return handshake_fault(error)
    if error.errno is not None and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    text = error.strerror or str(error) or "connection closed by the peer"
    if not isinstance(error, ConnectionError):
        return text
    return f"{text}; it may not accept our certificate" if tls else f"{text}; it may expect TLS"


def _authority(target: TcpAddress | UnixAddress) -> str:
    return (
        "localhost" if isinstance(target, UnixAddress) else f"{bracketed(target.host) or 'localhost'}:{target.port}"
    )
