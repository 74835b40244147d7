"""TUN devices: packets written to them come in from the network, packets read from them have gone out."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_LARGEST = 65535


class Tun:
    """One device (Documentation/networking/tuntap.rst), in the namespace of the thread that makes it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(self._handle, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
        except OSError:
            self.close()
            raise

    def send(self, packet: bytes) -> None:
        """Let a packet come in."""
        os.write(self._handle, packet)

    def received(self) -> Iterator[bytes]:
        """The packets that have gone out by now."""
        while True:
            try:
                yield os.read(self._handle, _LARGEST)
            except BlockingIOError:
                return

    def close(self) -> None:
        """The device goes with its handle."""
        os.close(self._handle)
