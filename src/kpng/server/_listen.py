"""Listening sockets: TCP on one or both families, and Unix sockets that replace their stale predecessors."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import stat

from kpng.model import UserError
from kpng.wire.address import TcpAddress, UnixAddress, bracketed, parse_address

BACKLOG = 4096
"""Thousands of nodes come back at once when a brain restarts; the default of 100 costs them seconds."""
_UNIX_UMASK = 0o007


class Listener:
    """A listening socket and the address it is really bound to."""

    def __init__(self, sock: socket.socket, address: TcpAddress | UnixAddress) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.address = address
        self._inode = os.stat(address.path).st_ino if isinstance(address, UnixAddress) else None

    def peer(self, address: object) -> str:
        """The address of an accepted connection, for people."""
        if isinstance(address, tuple):
            host = str(address[0]).removeprefix("::ffff:")  # IPv4 on a socket of both families
            return f"{bracketed(host)}:{address[1]}"
        return str(self.address)

    def close(self) -> None:
        """Stop listening, and remove the Unix socket if it is still ours."""
        self.socket.close()
        if self._inode is None or not isinstance(self.address, UnixAddress):
            return
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self.address.path).st_ino == self._inode:
                os.unlink(self.address.path)
        self._inode = None


def allow_descriptors(count: int) -> None:
    """Raise the soft limit of open files towards ``count``; the usual 1,024 are too few for a cluster's nodes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_listener(text: str, *, reuse_port: bool = False) -> Listener:
    """Listen on an address; with ``reuse_port`` other processes may listen on the same, and the kernel spreads
    clients over them (SO_REUSEPORT). Raises `UserError` with the reason if that is not possible."""
    address = parse_address(text)
    if reuse_port and isinstance(address, UnixAddress):
        raise UserError(f"{address}: only a TCP port can be shared by several processes")
    try:
        return _listen_unix(address) if isinstance(address, UnixAddress) else _listen_tcp(address, reuse_port)
    except OSError as error:
        raise UserError(f"cannot listen on {address}: {error.strerror or error}") from error


def _listen_tcp(address: TcpAddress, reuse_port: bool) -> Listener:
    """An empty host is every address of both families, as far as the machine has them."""
    if address.host:
        flags = socket.AI_PASSIVE | socket.AI_NUMERICSERV
        family, _, _, _, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=flags
        )[0]
    else:
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        target = ("", address.port)
    sock = socket.create_server(
        target[:2],
        family=family,
        backlog=BACKLOG,
        reuse_port=reuse_port,
        dualstack_ipv6=family == socket.AF_INET6 and not address.host,
    )
    return Listener(sock, TcpAddress(address.host, sock.getsockname()[1]))


def _listen_unix(address: UnixAddress) -> Listener:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(address)
        before = os.umask(_UNIX_UMASK)
        try:
            sock.bind(address.path)
        finally:
            os.umask(before)
        sock.listen(BACKLOG)
        return Listener(sock, address)
    except BaseException:
        sock.close()
        raise


def _remove_stale(address: UnixAddress) -> None:
    """Remove a socket that nobody listens on any more; never a live one, nor anything that is not a socket."""
    try:
        mode = os.stat(address.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UserError(f"cannot listen on {address}: the file exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            os.unlink(address.path)
            return
        except BlockingIOError:
            pass
    raise UserError(f"cannot listen on {address}: another process listens there")
