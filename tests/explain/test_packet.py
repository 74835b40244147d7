"""A packet in the user's words."""

from __future__ import annotations

import pytest

from kpng.explain import Packet, parse_packet
from kpng.model import Family, Protocol, UserError

UNDERSTOOD = [
    (("10.1.0.1", "10.96.0.1:80"), Packet("10.1.0.1", "10.96.0.1", 80)),
    (("10.1.0.1", "10.96.0.1:53", "udp"), Packet("10.1.0.1", "10.96.0.1", 53, Protocol.UDP)),
    (("10.1.0.1", "10.96.0.1:65535", "sctp"), Packet("10.1.0.1", "10.96.0.1", 65535, Protocol.SCTP)),
    (("10.1.0.1", "10.96.0.1", "icmp"), Packet("10.1.0.1", "10.96.0.1", 0, Protocol.UNKNOWN)),
    (("fd00::1", "[fd00:96::1]:80"), Packet("fd00::1", "fd00:96::1", 80)),
    (("fd00::1", "fd00:96::1", "icmp"), Packet("fd00::1", "fd00:96::1", 0, Protocol.UNKNOWN)),
    (("fd00::1", "[fd00:96::1]", "icmp"), Packet("fd00::1", "fd00:96::1", 0, Protocol.UNKNOWN)),
    (("FD00:0::1", "[FD00:96:0::1]:80"), Packet("fd00::1", "fd00:96::1", 80)),
    (("10.001.000.001", "10.96.0.1:80"), Packet("10.1.0.1", "10.96.0.1", 80)),
    (("::ffff:10.1.0.1", "10.96.0.1:80"), Packet("10.1.0.1", "10.96.0.1", 80)),
    (("10.1.0.1", "10.96.0.1:80", "tcp", "cni0"), Packet("10.1.0.1", "10.96.0.1", 80, interface="cni0")),
]


@pytest.mark.parametrize(("words", "packet"), UNDERSTOOD)
def test_what_is_understood(words: tuple[str, ...], packet: Packet) -> None:
    assert parse_packet(*words) == packet


MISTAKES = [
    (("10.1.0.1x", "10.96.0.1:80"), "--from: '10.1.0.1x' is not an IP address"),
    (("", "10.96.0.1:80"), "--from: '' is not an IP address"),
    (("10.1.0.1:80", "10.96.0.1:80"), "--from: '10.1.0.1:80' is not an IP address"),
    (("10.1.0.1", "web:80"), "--to: 'web' is not an IP address"),
    (("10.1.0.1", ":80"), "--to: '' is not an IP address"),
    (("10.1.0.1", "10.96.0.1"), "--to: '10.96.0.1' has no port; write 10.96.0.1:80 for port 80"),
    (("10.1.0.1", "10.96.0.1:"), "--to: '10.96.0.1:' has no port; write 10.96.0.1:80 for port 80"),
    (("fd00::1", "fd00:96::1:80"), "--to: 'fd00:96::1:80' has no port; write [fd00:96::1:80]:80 for port 80"),
    (("10.1.0.1", "10.96.0.1:0"), "--to: '0' is not a port number (1 to 65535)"),
    (("10.1.0.1", "10.96.0.1:65536"), "--to: '65536' is not a port number (1 to 65535)"),
    (("10.1.0.1", "10.96.0.1:http"), "--to: 'http' is not a port number (1 to 65535)"),
    (("10.1.0.1", "10.96.0.1:-1"), "--to: '-1' is not a port number (1 to 65535)"),
    (("10.1.0.1", "10.96.0.1:²"), "--to: '²' is not a port number (1 to 65535)"),
    (("10.1.0.1", "10.96.0.1:80", "icmp"), "--to: '10.96.0.1:80' has a port, and icmp has no ports"),
    (("10.1.0.1", "10.96.0.1:80", "gre"), "--proto: 'gre' is none of tcp, udp, sctp, icmp"),
    (("10.1.0.1", "[fd00::1]:80"), "--from 10.1.0.1 and --to fd00::1 are not of one IP family"),
    (("fe80::1%eth0", "[fd00::1]:80"), "--from: 'fe80::1%eth0' has a zone, which a service address cannot have"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_are_told_in_one_line(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_packet(*words)
    assert str(raised.value) == message


def test_a_port_of_any_length_is_no_trap() -> None:
    with pytest.raises(UserError, match="is not a port number"):
        parse_packet("10.1.0.1", f"10.96.0.1:{'9' * 5000}")


@pytest.mark.parametrize(
    ("packet", "shown", "family"),
    [
        (Packet("10.1.0.1", "10.96.0.1", 80), "tcp 10.1.0.1 -> 10.96.0.1:80", Family.IPV4),
        (Packet("fd00::1", "fd00:96::1", 53, Protocol.UDP), "udp fd00::1 -> [fd00:96::1]:53", Family.IPV6),
        (Packet("10.1.0.1", "10.96.0.1", 0, Protocol.UNKNOWN), "icmp 10.1.0.1 -> 10.96.0.1", Family.IPV4),
    ],
)
def test_as_it_is_shown(packet: Packet, shown: str, family: Family) -> None:
    assert str(packet) == shown
    assert packet.family is family
