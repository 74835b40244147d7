"""Word of changes of this machine's addresses (rtnetlink(7), RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator

_IPV4_ADDRESSES, _IPV6_ADDRESSES = 0x10, 0x100
_ENOUGH = 1 << 16


class AddressWatch:
    """Subscribed from the moment it is made, so that nothing is missed between reading the addresses and waiting.

    Belongs to the network namespace of the thread that makes it. Raises `OSError` where there is no netlink.
    """

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.bind((0, _IPV4_ADDRESSES | _IPV6_ADDRESSES))

    async def changes(self) -> AsyncIterator[None]:
        """Yields after each change; several that come at once are one."""
        arrived = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, arrived.set)
        try:
            while True:
                await arrived.wait()
                arrived.clear()
                self._drain()
                yield
        finally:
            loop.remove_reader(self._socket)

    def _drain(self) -> None:
        """What has changed is read elsewhere; that more came than fits (ENOBUFS) is word of a change too."""
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    self._socket.recv(_ENOUGH)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise

    def close(self) -> None:
        self._socket.close()
