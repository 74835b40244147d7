"""Connection attempts, and what was seen of each."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

from msgspec import Struct

from .endpoints import endpoint_text
from .flows import Flow
from .parsing import Departure, Found, Refusal, Reset
from .tracking import Direction

PORT_UNREACHABLE = {4: 3, 6: 4}
"""ICMP codes (RFC 792, RFC 4443 3.1)."""


class Seen(Struct, frozen=True, order=True):
    """What became of an attempt: a verdict in the data's words, or another that no expectation has."""

    verdict: str
    endpoint: str = ""
    masquerade: bool = False

    def __str__(self) -> str:
        target = f" {self.endpoint}" if self.endpoint else ""
        return f"{self.verdict}{target}{' masqueraded' if self.masquerade else ''}"


DROP = Seen("drop")
REJECT = Seen("reject")


class Attempt(Struct, eq=False):
    """One connection attempt of a flow; ``socket`` where a process of the node makes it."""

    flow: Flow
    token: int
    source_port: int
    socket: socket.socket | None = None
    error: int = 0

    @property
    def source(self) -> tuple[str, int]:
        return self.flow.src_ip, self.source_port

    @property
    def target(self) -> tuple[str, int]:
        return self.flow.dst_ip, self.flow.dst_port

    @property
    def direction(self) -> Direction:
        return Direction(self.flow.proto, self.source, self.target)

    def connected(self) -> bool:
        """Whether the process's connection stands."""
        try:
            return self.socket is not None and bool(self.socket.getpeername())
        except OSError:
            return False

    def take_error(self) -> None:
        """Ask the socket for its error, which it tells but once."""
        if self.socket is not None:
            self.error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or self.error


class Evidence(Struct):
    """What was found since the attempts were made.

    ``packets``: by token, what left the node. ``reply``: what connection tracking says. ``delivered``: tokens
    that UDP listeners on the node got.
    """

    packets: Mapping[int, list[Found]]
    reply: Callable[[Direction], Direction | None]
    delivered: AbstractSet[int] = frozenset()


def see(attempt: Attempt, evidence: Evidence, *, target_is_local: bool) -> Seen:
    """Tell from the evidence what became of an attempt.

    A packet that left tells most. Without one it was delivered on the node, and connection tracking says to which
    address: an entry is only made for what has passed all rules (nf_conntrack_confirm).
    """
    if attempt.socket is None:
        return _see_packet(attempt, evidence)
    return _see_process(attempt, evidence, target_is_local)


def _see_packet(attempt: Attempt, evidence: Evidence) -> Seen:
    left = _departed(attempt, evidence)
    if left is not None:
        return left
    entry = evidence.reply(attempt.direction)
    if entry is not None:
        return _translated(attempt, entry.target, entry.source)
    for packet in evidence.packets.get(attempt.token, ()):
        if isinstance(packet, Refusal):
            return _refused(attempt, packet)
        if isinstance(packet, Reset):
            return Seen("reset")
    return DROP


def _departed(attempt: Attempt, evidence: Evidence) -> Seen | None:
    for packet in evidence.packets.get(attempt.token, ()):
        if isinstance(packet, Departure):
            return _translated(attempt, packet.source, packet.target)
    return None


def _see_process(attempt: Attempt, evidence: Evidence, target_is_local: bool) -> Seen:
    """A process is told of ICMP errors by its socket; and what it sends to an address of the node is tracked before
    the rules for incoming packets, so only a connection that stands has passed them all."""
    if attempt.error == errno.ECONNREFUSED:
        return REJECT
    if attempt.error not in (0, errno.EPERM):  # EPERM: dropped on its way out
        return Seen(f"error {errno.errorcode.get(attempt.error, os.strerror(attempt.error))}")
    left = _departed(attempt, evidence)
    if left is not None:
        return left
    entry = evidence.reply(attempt.direction)
    if entry is None:
        return DROP
    seen = _translated(attempt, entry.target, entry.source)
    if seen.verdict == "none" and target_is_local and not _arrived(attempt, evidence):
        return DROP
    return seen


def _arrived(attempt: Attempt, evidence: Evidence) -> bool:
    return attempt.token in evidence.delivered if attempt.flow.proto == "udp" else attempt.connected()


def _translated(attempt: Attempt, source: tuple[str, int], target: tuple[str, int]) -> Seen:
    """To itself the node is masqueraded by its own address (RFC 6724, rule 1), with another port."""
    masquerade = source != attempt.source
    if target == attempt.target:
        return Seen("none", masquerade=masquerade)
    return Seen("dnat", endpoint_text(*target), masquerade)


def _refused(attempt: Attempt, refusal: Refusal) -> Seen:
    version = 6 if ":" in attempt.flow.src_ip else 4
    if refusal.receiver == attempt.flow.src_ip and refusal.code == PORT_UNREACHABLE[version]:
        return REJECT
    return Seen(f"reject with ICMP code {refusal.code} to {refusal.receiver}")
