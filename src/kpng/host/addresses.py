"""The addresses of this machine, by rtnetlink (rtnetlink(7), linux/if_addr.h)."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from .netlink import NETLINK_ROUTE, DumpInterruptedError, Flag, NetlinkSocket, attribute_map, message

_GET_ADDRESS = 22
_HEADER = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, prefix length, flags, scope, interface."""
_ADDRESS, _LOCAL = 1, 2
_SCOPE_HOST = 254
_DUMP_ATTEMPTS = 5
_FAMILIES = {int(socket.AF_INET): 4, int(socket.AF_INET6): 16}
"""With the sizes of their addresses."""


class InterfaceAddress(NamedTuple):
    """An address of an interface. ``address`` is in its canonical form, ``interface`` is the interface's index,
    ``scope`` is an RT_SCOPE_...: 0 global, 253 link-local, 254 valid on this machine only."""

    address: str
    prefix_length: int
    interface: int
    scope: int

    @property
    def is_host_only(self) -> bool:
        """Loopback, by scope: 127.0.0.1 and ::1, but not another address that somebody gave to ``lo``."""
        return self.scope == _SCOPE_HOST


def interface_addresses() -> list[InterfaceAddress]:
    """All addresses, of both families, in the network namespace of this thread. Raises `OSError`."""
    route = NetlinkSocket(NETLINK_ROUTE)
    try:
        return [found for payload in _dump(route) if (found := read_address(payload)) is not None]
    finally:
        route.close()


def _dump(route: NetlinkSocket) -> list[bytes]:
    request = message(_GET_ADDRESS, Flag.DUMP, _HEADER.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
    for _ in range(_DUMP_ATTEMPTS - 1):
        try:
            return route.dump(request)
        except DumpInterruptedError:
            continue
    try:
        return route.dump(request)
    except DumpInterruptedError as error:
        raise InterruptedError("the addresses kept changing while they were read") from error


def read_address(payload: bytes) -> InterfaceAddress | None:
    """The address in an RTM_NEWADDR; None if it is of a family other than IPv4 and IPv6.

    On a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL ours; IPv6 has the latter only there.
    """
    if len(payload) < _HEADER.size:
        return None
    family, prefix_length, _, scope, interface = _HEADER.unpack_from(payload)
    found = attribute_map(payload, _HEADER.size)
    packed = found.get(_LOCAL) or found.get(_ADDRESS, b"")
    if _FAMILIES.get(family) != len(packed):
        return None
    return InterfaceAddress(socket.inet_ntop(family, packed), prefix_length, interface, scope)
