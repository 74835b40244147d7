"""What both ends of a gRPC call share: messages in, buffers out, over one stream of an HTTP/2 connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .grpc import GrpcError, GrpcStatus, MessageReader
from .http2 import Buffer, Http2Protocol


class GrpcStream:
    """One end of a call. At most one task may wait to receive and one to send."""

    __slots__ = (
        "_connection",
        "_ended",
        "_failure",
        "_held",
        "_inbox",
        "_readable",
        "_reader",
        "_writable",
        "stream_id",
    )

    def __init__(self, connection: Http2Protocol, stream_id: int, max_message_bytes: int) -> None:
        self.stream_id = stream_id
        self._connection = connection
        self._reader = MessageReader(max_message_bytes)
        self._inbox: list[bytes] = []
        self._held = 0
        self._ended = False
        self._failure: Exception | None = None
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    @property
    def is_gone(self) -> bool:
        """Whether the call has failed: reset, or its connection lost."""
        return self._failure is not None

    # What the connection calls

    def data_received(self, data: bytes) -> None:
        """Bytes of messages. Raises `GrpcError` on one that is not acceptable.

        The peer's window is given back when the messages are taken, but at once for a message that is not complete
        yet, which may well be longer than the window.
        """
        if self._failure is not None:
            return
        messages = self._reader.feed(data)
        if messages:
            self._inbox += messages
            self._held += len(data)
            _wake(self._readable)
        else:
            self._connection.core.acknowledge(self.stream_id, len(data))

    def end_received(self) -> None:
        """The peer will send no more. Within a message, that is no end but a loss."""
        if self._reader.in_message:
            self.fail(GrpcError(GrpcStatus.INTERNAL, "the peer ended within a message"))
        self._ended = True
        _wake(self._readable)

    def fail(self, failure: Exception) -> None:
        """The call is over; whoever waits gets this exception. The first one counts."""
        if self._failure is None:
            self._failure = failure
        _wake(self._readable)
        _wake(self._writable)

    def drained(self) -> None:
        """Everything sent so far has been handed to the transport."""
        _wake(self._writable)

    # What the users of a call share

    async def _wait_readable(self) -> bool:
        """Wait for messages, the end or a failure; whether there are messages. Raises the failure after them."""
        while not self._inbox and not self._ended and self._failure is None:
            self._readable = asyncio.get_running_loop().create_future()
            try:
                await self._readable
            finally:
                self._readable = None
        if not self._inbox and self._failure is not None:
            raise self._failure
        return bool(self._inbox)

    def _release(self) -> None:
        """The messages that had arrived have been taken."""
        held, self._held = self._held, 0
        self._connection.core.acknowledge(self.stream_id, held)
        self._connection.flush()

    async def _send(self, buffers: Sequence[Buffer]) -> None:
        """Send and wait until the transport has it all."""
        if self._failure is not None:
            raise self._failure
        core = self._connection.core
        core.send(self.stream_id, buffers)
        self._connection.flush()
        while self._failure is None and core.is_pending(self.stream_id):
            self._writable = asyncio.get_running_loop().create_future()
            try:
                await self._writable
            finally:
                self._writable = None
        if self._failure is not None:
            raise self._failure


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
