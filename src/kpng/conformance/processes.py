"""Processes of the node, by their sockets: clients that make attempts, and servers where those may end."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator

from .attempts import Attempt
from .flows import Flow
from .packets import TOKEN

_TCP_REPAIR, _TCP_REPAIR_QUEUE, _TCP_QUEUE_SEQUENCE = 19, 20, 21
_SEND_QUEUE, _REPAIR_OFF_SILENTLY = 2, -1
"""linux/tcp.h"""

_KINDS = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0), "sctp": (socket.SOCK_STREAM, 132)}


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def socket_for(flow: Flow) -> socket.socket:
    """A socket for the flow's protocol and family."""
    return socket.socket(_family(flow.src_ip), *_KINDS[flow.proto])


def connect(attempt: Attempt) -> None:
    """Begin a connection; what the kernel says at once is kept."""
    assert attempt.socket is not None
    attempt.socket.setblocking(False)
    try:
        if attempt.flow.proto == "tcp":
            _begin_with(attempt.socket, attempt.token)
        attempt.socket.bind(attempt.source)
        attempt.socket.connect(attempt.target)
        if attempt.flow.proto == "udp":
            attempt.socket.send(TOKEN.pack(attempt.token))
    except BlockingIOError:
        pass
    except OSError as error:
        attempt.error = error.errno or 0


def _begin_with(sock: socket.socket, token: int) -> None:
    """Have TCP take the token for its initial sequence number (tcp_v4_connect only chooses where there is none)."""
    for option, value in (
        (_TCP_REPAIR, 1),
        (_TCP_REPAIR_QUEUE, _SEND_QUEUE),
        (_TCP_QUEUE_SEQUENCE, token),
        (_TCP_REPAIR, _REPAIR_OFF_SILENTLY),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def listen(protocol: str, host: str, port: int) -> socket.socket:
    """A server; TCP's connections it leaves in the queue. Raises `OSError`."""
    sock = socket.socket(_family(host), *_KINDS[protocol])
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((host, port))
        if protocol != "udp":
            sock.listen(4096)
    except OSError:
        sock.close()
        raise
    return sock


def tokens_at(listeners: Iterable[socket.socket]) -> Iterator[int]:
    """What has come to UDP listeners since they were asked last."""
    for sock in listeners:
        with contextlib.suppress(OSError):
            while sock.type == socket.SOCK_DGRAM:
                yield TOKEN.unpack_from(sock.recv(100).ljust(TOKEN.size, b"\0"))[0]
