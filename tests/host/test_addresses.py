"""The machine's addresses: how the kernel tells them, and those of real interfaces."""

from __future__ import annotations

import itertools
import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.host import addresses, netlink
from kpng.host.addresses import InterfaceAddress, interface_addresses, read_address
from kpng.host.netlink import DumpInterruptedError, NetlinkSocket
from kpng.lab.netns import Namespace

_numbers = itertools.count()


def told(family: int, length: int, scope: int, index: int, **parts: str) -> bytes:
    numbers = {"address": 1, "local": 2}
    attributes = [netlink.attribute(numbers[name], socket.inet_pton(family, text)) for name, text in parts.items()]
    return struct.pack("=BBBBI", family, length, 0x80, scope, index) + b"".join(attributes)


V4, V6 = socket.AF_INET, socket.AF_INET6
MESSAGES = [
    (told(V4, 24, 0, 4, address="192.0.2.1", local="192.0.2.1"), InterfaceAddress("192.0.2.1", 24, 4, 0)),
    (told(V4, 8, 254, 1, address="127.0.0.1", local="127.0.0.1"), InterfaceAddress("127.0.0.1", 8, 1, 254)),
    (told(V4, 32, 0, 5, address="10.0.0.2", local="10.0.0.1"), InterfaceAddress("10.0.0.1", 32, 5, 0)),
    (told(V6, 64, 0, 4, address="fd00::1"), InterfaceAddress("fd00::1", 64, 4, 0)),
    (told(V6, 128, 0, 5, address="fd00::2", local="fd00::1"), InterfaceAddress("fd00::1", 128, 5, 0)),
    (told(V6, 64, 253, 4, address="fe80::1"), InterfaceAddress("fe80::1", 64, 4, 253)),
    (told(V4, 24, 0, 4), None),
    (struct.pack("=BBBBI", 28, 0, 0, 0, 1) + netlink.attribute(1, b"mpls"), None),
    (told(V6, 64, 0, 4) + netlink.attribute(1, b"\1\2\3\4"), None),
    (b"", None),
    (b"\2\30", None),
]


@pytest.mark.parametrize(("payload", "expected"), MESSAGES)
def test_messages(payload: bytes, expected: InterfaceAddress | None) -> None:
    """With the peer's address beside ours on point-to-point links."""
    assert read_address(payload) == expected


@given(st.sampled_from([2, 10, 7]), st.binary(max_size=80))
def test_garbage(family: int, garbage: bytes) -> None:
    found = read_address(bytes([family]) + garbage)
    assert found is None or socket.inet_pton(V6 if ":" in found.address else V4, found.address)


@pytest.mark.parametrize(("scope", "expected"), [(0, False), (200, False), (253, False), (254, True)])
def test_host_only_is_a_matter_of_scope(scope: int, expected: bool) -> None:
    assert InterfaceAddress("192.0.2.1", 32, 1, scope).is_host_only is expected


@pytest.mark.netns
def test_addresses_of_interfaces() -> None:
    with Namespace(f"kpt-addr-{os.getpid()}-{next(_numbers)}") as space:
        space.run("ip", "link", "add", "left", "type", "veth", "peer", "name", "right")
        space.run("ip", "link", "set", "left", "up")
        for command in (
            "192.0.2.1/24 dev left",
            "192.0.2.2/24 dev left",
            "10.9.0.1 peer 10.9.0.2 dev right",
            "203.0.113.9/32 dev lo",
            "fd00::1/64 dev left nodad",
        ):
            space.run("ip", "address", "add", *command.split())
        found = space.call(interface_addresses)
        index = {name: int(space.run("cat", f"/sys/class/net/{name}/ifindex")) for name in ("lo", "left", "right")}
    globally = {(one.address, one.prefix_length, one.interface) for one in found if one.scope == 0}
    assert globally == {
        ("192.0.2.1", 24, index["left"]),
        ("192.0.2.2", 24, index["left"]),
        ("10.9.0.1", 32, index["right"]),
        ("203.0.113.9", 32, index["lo"]),
        ("fd00::1", 64, index["left"]),
    }
    assert {one.address for one in found if one.is_host_only} == {"127.0.0.1", "::1"}


@pytest.mark.netns
def test_each_namespace_has_its_own() -> None:
    with Namespace(f"kpt-addr-{os.getpid()}-{next(_numbers)}") as space:
        assert {one.address for one in space.call(interface_addresses)} == {"127.0.0.1", "::1"}


def test_interrupted_lists_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[list[bytes] | Exception] = [DumpInterruptedError(), DumpInterruptedError(), [MESSAGES[0][0]]]

    def dump(self: NetlinkSocket, request: bytes) -> list[bytes]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(NetlinkSocket, "dump", dump)
    assert interface_addresses() == [MESSAGES[0][1]]
    answers += [DumpInterruptedError()] * addresses._DUMP_ATTEMPTS
    with pytest.raises(InterruptedError, match="kept changing"):
        interface_addresses()
    assert answers == []
