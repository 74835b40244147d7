"""Real traffic: requests from inside a namespace, each over a new connection, and what came back."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .netns import Namespace

REFUSED, TIMEOUT, UNREACHABLE, CLOSED = "refused", "timeout", "unreachable", "closed"
MAX_ANSWER = 1 << 24
IPV6_RECVERR = 25  # linux/in6.h; the socket module does not have it
_WORDS = {
    errno.ECONNREFUSED: REFUSED,
    errno.ETIMEDOUT: TIMEOUT,
    errno.ENETUNREACH: UNREACHABLE,
    errno.EHOSTUNREACH: UNREACHABLE,
    errno.ECONNRESET: CLOSED,
    errno.EPIPE: CLOSED,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of one request. ``error`` is "" or one of the words above; ``seconds`` is how long it took."""

    at: float
    seconds: float
    pod: str = ""
    client: str = ""
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes. ``protocol`` is "http", "tcp" (echo) or "udp" (echo)."""

    protocol: str
    address: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}" + ("" if self.protocol == "http" else f" {self.protocol}")


@dataclass(slots=True)
class Tally:
    """Many replies, summed up."""

    replies: list[Reply] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return len(self.replies)

    @property
    def answered(self) -> int:
        return sum(reply.ok for reply in self.replies)

    @property
    def errors(self) -> Counter[str]:
        return Counter(reply.error for reply in self.replies if not reply.ok)

    @property
    def endpoints(self) -> Counter[str]:
        return Counter(reply.pod for reply in self.replies if reply.ok)

    @property
    def clients(self) -> set[str]:
        """The client addresses that the pods saw."""
        return {reply.client for reply in self.replies if reply.ok}

    def milliseconds(self, quantile: float) -> float | None:
        """A quantile of the time to an answer (or to the error, if nothing was answered)."""
        times = sorted(reply.seconds for reply in self.replies if reply.ok or not self.answered)
        return 1000 * times[min(int(quantile * len(times)), len(times) - 1)] if times else None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A TCP connection that stays open, with the pod at its other end."""

    connection: socket.socket
    pod: str

    @classmethod
    async def begin(cls, connection: socket.socket, target: Target) -> Conversation:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (target.address, target.port))
        return cls(connection, _who(await loop.sock_recv(connection, 4096))[0])

    async def goes_on(self, seconds: float = 1.0) -> bool:
        """Whether a line that is sent now is still echoed."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                await loop.sock_sendall(self.connection, b"still there\n")
                return await loop.sock_recv(self.connection, 4096) == b"still there\n"
        except (OSError, TimeoutError):
            return False

    def close(self) -> None:
        self.connection.close()


class Prober:
    """Sends from one namespace. Close it after use: it keeps a thread that has entered the namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self._thread: ThreadPoolExecutor = namespace.executor()

    def close(self) -> None:
        self._thread.shutdown()

    async def send(self, target: Target, *, source: str = "", seconds: float = 1.0) -> Reply:
        """Send one request over a new connection (or from a new port) and wait that long for the answer."""
        kind = socket.SOCK_DGRAM if target.protocol == "udp" else socket.SOCK_STREAM
        connection = self.socket(target.address, kind, source)
        talk = _TALKS[target.protocol]
        started = time.monotonic()
        pod = client = error = ""
        with connection:
            try:
                # Not wait_for: until Python 3.12 it loses a cancellation that comes together with the answer.
                async with asyncio.timeout(seconds):
                    said = await talk(connection, (target.address, target.port))
                pod, client = _who(said)
            except TimeoutError:
                error = TIMEOUT
            except OSError as failure:
                error = _WORDS.get(failure.errno or 0) or str(failure)
            except (ValueError, KeyError, TypeError):
                error = CLOSED
        return Reply(started, time.monotonic() - started, pod, client, error)

    async def open(self, target: Target) -> Conversation:
        """Connect to a TCP echo server and keep the connection. Raises OSError, TimeoutError."""
        connection = self.socket(target.address, socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(1.0):
                return await Conversation.begin(connection, target)
        except BaseException:
            connection.close()
            raise

    async def exchange(self, address: str, port: int, request: bytes, seconds: float = 10.0) -> bytes:
        """Connect, send bytes and return everything until the other side closes. Raises OSError, TimeoutError."""
        connection = self.socket(address, socket.SOCK_STREAM)
        with connection:
            async with asyncio.timeout(seconds):
                return await _exchange(connection, (address, port), request)

    def socket(self, address: str, kind: int, source: str = "") -> socket.socket:
        """A non-blocking socket of the namespace, of the address's family.

        Not a coroutine: one that is cancelled half-way would leave a socket behind.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return self._thread.submit(_make, family, kind, source).result()


_Talk = Callable[[socket.socket, tuple[str, int]], Awaitable[bytes]]


def _who(answer: bytes) -> tuple[str, str]:
    """The pod that answered and the client address it saw (`pods.answer`)."""
    said = json.loads(answer)
    return said["pod"], said["client"]


def _make(family: int, kind: int, source: str) -> socket.socket:
    made = socket.socket(family, kind)
    made.setblocking(False)
    if family == socket.AF_INET6:
        # In the lab an ICMPv6 error comes back within connect(), while the socket is busy: without this option
        # the kernel keeps it to itself until the SYN is repeated after a second (tcp_v6_err in tcp_ipv6.c).
        made.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    if source:
        made.bind((source, 0))
    return made


async def _http_get(connection: socket.socket, target: tuple[str, int]) -> bytes:
    request = f"GET / HTTP/1.1\r\nHost: {target[0]}\r\nConnection: close\r\n\r\n"
    answer = await _exchange(connection, target, request.encode())
    return answer.partition(b"\r\n\r\n")[2]


async def _tcp_echo(connection: socket.socket, target: tuple[str, int]) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, target)
    await loop.sock_sendall(connection, b"echo\n")
    received = b""
    while received.count(b"\n") < 2:
        data = await loop.sock_recv(connection, 4096)
        if not data:
            return b""
        received += data
    return received.partition(b"\n")[0]


async def _udp_echo(connection: socket.socket, target: tuple[str, int]) -> bytes:
    # Connected, so that an ICMP "port unreachable" comes back as ECONNREFUSED (udp(7)).
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, target)
    await loop.sock_sendall(connection, b"echo\n")
    return (await loop.sock_recv(connection, 4096)).partition(b"\n")[0]


async def _exchange(connection: socket.socket, target: tuple[str, int], request: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, target)
    await loop.sock_sendall(connection, request)
    received = bytearray()
    while (data := await loop.sock_recv(connection, 65536)) and len(received) < MAX_ANSWER:
        received += data
    return bytes(received)


_TALKS: dict[str, _Talk] = {"http": _http_get, "tcp": _tcp_echo, "udp": _udp_echo}
