"""The packet that is asked about: the first of a connection."""

from __future__ import annotations

from msgspec import Struct

from kpng.model import Family, InvalidObjectError, Protocol, UserError, family_of, parse_address

PROTOCOLS = {"tcp": Protocol.TCP, "udp": Protocol.UDP, "sctp": Protocol.SCTP, "icmp": Protocol.UNKNOWN}
"""By what users call them. No Service has ports of ICMP, nor of any protocol that is not named here."""

_HIGHEST_PORT = 65535


class Packet(Struct, frozen=True):
    """Canonical addresses of one family. ``port`` is 0 where the protocol is ICMP (`Protocol.UNKNOWN`).

    ``interface``: the one that it comes in by, "" where that is not known, or where there is none.
    """

    source: str
    target: str
    port: int = 0
    protocol: Protocol = Protocol.TCP
    interface: str = ""

    @property
    def family(self) -> Family:
        return family_of(self.target)

    @property
    def protocol_name(self) -> str:
        return next(name for name, protocol in PROTOCOLS.items() if protocol is self.protocol)

    def __str__(self) -> str:
        target = socket_text(self.target, self.port) if self.port else self.target
        return f"{self.protocol_name} {self.source} -> {target}"


def socket_text(address: str, port: int) -> str:
    """HOST:PORT, with brackets around IPv6 (RFC 3986)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def parse_packet(source: str, target: str, protocol: str = "tcp", interface: str = "") -> Packet:
    """A packet from a user's words; ``target`` is IP:PORT, [IP]:PORT, or IP alone with icmp. Raises `UserError`."""
    kind = PROTOCOLS.get(protocol)
    if kind is None:
        raise UserError(f"--proto: {protocol!r} is none of {', '.join(PROTOCOLS)}")
    sender = _address("--from", source)
    host, port = _split_port(target)
    receiver = _address("--to", host)
    if family_of(sender) is not family_of(receiver):
        raise UserError(f"--from {sender} and --to {receiver} are not of one IP family")
    if kind is Protocol.UNKNOWN:
        if port:
            raise UserError(f"--to: {target!r} has a port, and {protocol} has no ports")
        return Packet(sender, receiver, 0, kind, interface)
    if not port:
        raise UserError(f"--to: {target!r} has no port; write {socket_text(receiver, 80)} for port 80")
    return Packet(sender, receiver, _port(port), kind, interface)


def _split_port(text: str) -> tuple[str, str]:
    """Host and port, "" where there is none. Without brackets, IPv6 is never taken for host and port."""
    host, separator, port = text.rpartition(":")
    if separator and host.startswith("[") and host.endswith("]"):
        return host[1:-1], port
    if separator and ":" not in host:
        return host, port
    return text.removeprefix("[").removesuffix("]"), ""


def _address(option: str, text: str) -> str:
    try:
        return parse_address(text)
    except InvalidObjectError as error:
        raise UserError(f"{option}: {error.message}") from None


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= _HIGHEST_PORT:
        raise UserError(f"--to: {text!r} is not a port number (1 to {_HIGHEST_PORT})")
    return int(text)
