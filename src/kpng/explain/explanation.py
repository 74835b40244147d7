"""What `explain` answers."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from .frontends import Frontend
from .packet import Packet, socket_text
from .routes import Route
from .sender import Sender


class Verdict(Enum):
    """``REJECT``: answered with ICMP port unreachable, TCP too. ``DROP``: without an answer. ``NONE``: no service's
    business, so it goes where routing and others' rules take it."""

    FORWARD = "forward"
    REJECT = "reject"
    DROP = "drop"
    NONE = "none"


class Target(Struct, frozen=True):
    """An endpoint that the packet may be sent to. ``why``: why it is masqueraded, or not."""

    address: str
    port: int
    local: bool
    terminating: bool
    masquerade: bool
    why: str

    def __str__(self) -> str:
        return socket_text(self.address, self.port)


class LeftOut(Struct, frozen=True):
    """An endpoint of the service that it may not be sent to. ``port`` is 0 where it does not have the port."""

    address: str
    port: int
    why: str

    def __str__(self) -> str:
        return socket_text(self.address, self.port) if self.port else self.address


class Explanation(Struct, frozen=True, kw_only=True):
    """``reason``: the rule that decided. ``targets`` are equally likely, and there are some only with the verdict
    ``FORWARD``; ``choice`` says why these. ``left_out`` is None where that is not known."""

    packet: Packet
    node: str
    sender: Sender
    verdict: Verdict
    reason: str
    frontend: Frontend | None = None
    route: Route | None = None
    targets: tuple[Target, ...] = ()
    choice: str = ""
    left_out: tuple[LeftOut, ...] | None = None
    notes: tuple[str, ...] = ()
