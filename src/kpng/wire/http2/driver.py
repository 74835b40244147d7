"""Drives a `Connection` over an asyncio transport: reading, writing under back-pressure, noticing dead peers."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import cast

from .connection import OUTPUT_BYTES, Connection
from .errors import Http2Error
from .events import Event
from .stream import Buffer

JOIN_BYTES = 16 * 1024
"""Up to here it is cheaper to copy the buffers of a step together than to hand them over one by one."""
LINGER_SECONDS = 1.0
"""How long a peer may take to read our last words, and with TLS to take its leave (not every one does)."""


@dataclass(frozen=True)
class Keepalive:
    """When a silent peer is asked for a sign of life by PING, and when it is given up.

    The peer's SETTINGS must have come within ``handshake_seconds``; no PING is sent before.
    """

    handshake_seconds: float = 10.0
    idle_seconds: float = 30.0
    timeout_seconds: float = 20.0

    def tune(self, sock: socket.socket) -> None:
        """Send small frames at once, and have the kernel give up on data that is never acknowledged (tcp(7))."""
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            milliseconds = int((self.idle_seconds + self.timeout_seconds) * 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


class Http2Protocol(asyncio.Protocol):
    """The asyncio side of one connection. Subclasses say what the events mean."""

    __slots__ = (
        "_keepalive",
        "_last_received",
        "_loop",
        "_paused",
        "_pinged_at",
        "_timer",
        "_transport",
        "core",
        "fault",
        "peer",
    )

    def __init__(self, core: Connection, keepalive: Keepalive, peer: str) -> None:
        self.core = core
        self.fault: str | None = None
        """What the peer did that made us close the connection."""
        self.peer = peer
        self._keepalive = keepalive
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last_received = 0.0
        self._paused = False
        self._pinged_at: float | None = None

    # What subclasses fill in

    def handle(self, event: Event) -> None:
        """Act on one event of the core."""
        raise NotImplementedError

    def drained(self, stream_id: int) -> None:
        """All data of a stream has been handed to the transport."""
        raise NotImplementedError

    def lost(self, reason: str) -> None:
        """The connection is gone. If that was our decision, ``fault`` says the reason too."""
        raise NotImplementedError

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=OUTPUT_BYTES)
        self._timer = self._loop.call_later(self._keepalive.handshake_seconds, self._check_handshake)
        self.flush()

    def data_received(self, data: bytes) -> None:
        if not self.is_open:
            return
        self._last_received = now = self._loop.time()
        try:
            events = self.core.receive(data, now)
            for event in events:
                self.handle(event)
        except Http2Error as error:
            self.fail(str(error))
        self.flush()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.flush()

    def eof_received(self) -> None:
        """Close: HTTP/2 knows no half-closed connections."""

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        closed = "connection closed" if self.core.closed else "connection closed by the peer"
        told = error.strerror if isinstance(error, OSError) else None
        self.lost(self.fault or told or str(error or closed))

    # What the users of a connection call

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def extra(self, name: str) -> object:
        """`asyncio.BaseTransport.get_extra_info`; None once the connection is gone."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    def flush(self) -> None:
        """Write what may go now."""
        while self.core.has_output and not self._paused and self.is_open:
            if buffers := self.core.take_output():
                self._write(buffers)
        for stream_id in self.core.take_drained():
            self.drained(stream_id)

    def _write(self, buffers: list[Buffer]) -> None:
        assert self._transport is not None
        if len(buffers) == 1:
            self._transport.write(buffers[0])
        elif sum(map(len, buffers)) <= JOIN_BYTES:
            self._transport.write(b"".join(buffers))
        else:
            self._transport.writelines(buffers)

    def fail(self, reason: str) -> None:
        """Give the connection up for a fault of the peer, which is told so."""
        self.fault = reason
        self.flush()
        self.close()

    def close(self) -> None:
        """Close when everything is written, or when that takes too long."""
        if self._transport is None:
            return
        self._transport.close()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(LINGER_SECONDS, self.abort)

    def abort(self) -> None:
        """Close at once; what is not written is lost."""
        if self._transport is not None:
            self._transport.abort()

    # Keepalive

    def _check_handshake(self) -> None:
        if self.core.settled:
            self._check_alive()
        else:
            self._give_up("no HTTP/2 handshake")

    def _check_alive(self) -> None:
        """PING a peer that has been silent; whatever it sends then is a sign of life."""
        idle_seconds, silent = self._keepalive.idle_seconds, self._loop.time() - self._last_received
        if silent < idle_seconds or (self._pinged_at is not None and self._last_received >= self._pinged_at):
            self._pinged_at = None
            self._timer = self._loop.call_later(max(0.0, idle_seconds - silent), self._check_alive)
        elif self._pinged_at is None:
            self._pinged_at = self._loop.time()
            self.core.ping()
            self.flush()
            self._timer = self._loop.call_later(self._keepalive.timeout_seconds, self._check_alive)
        else:
            self._give_up("the peer gives no sign of life")

    def _give_up(self, reason: str) -> None:
        self.fault = reason
        self.abort()
