"""What a connection grants its peer, and the budgets that stop floods."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ErrorCode, Http2Error
from .frames import DEFAULT_FRAME_BYTES, DEFAULT_WINDOW


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of one HTTP/2 connection. Windows may not be smaller than the protocol's default of 65,535.

    Resets (CVE-2023-44487, CVE-2025-8671): streams the peer ends early or makes us end. Overhead: PING, SETTINGS,
    PRIORITY, empty DATA, refused streams and the like, which cost us work and the peer nothing
    (CVE-2019-9512, -9513, -9515, -9518).
    """

    max_concurrent_streams: int = 128
    initial_window: int = DEFAULT_WINDOW
    connection_window: int = 1 << 20
    max_header_list_bytes: int = 16 * 1024
    max_header_block_bytes: int = 32 * 1024
    max_continuations: int = 8
    max_sent_frame_bytes: int = 4 * DEFAULT_FRAME_BYTES
    max_control_bytes: int = 256 * 1024
    resets_per_second: float = 50.0
    resets_burst: int = 400
    overhead_per_second: float = 100.0
    overhead_burst: int = 2000


class Budget:
    """A token bucket: ``burst`` at once, then ``rate`` a second. The caller brings the clock."""

    __slots__ = ("_burst", "_rate", "_then", "_tokens")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._then: float | None = None

    def spend(self, now: float) -> bool:
        """Take one token; False if there is none left."""
        if self._then is None:
            self._then = now
        if self._tokens < 1:
            self._tokens = min(self._burst, self._tokens + (now - self._then) * self._rate)
            self._then = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def earn(self, tokens: float) -> None:
        """Give back what the peer may spend because of what we did."""
        self._tokens = min(self._burst, self._tokens + tokens)


class FloodGuard:
    """Charges the peer for what costs us work and it nothing. Raises `Http2Error` when a budget is spent."""

    __slots__ = ("_overhead", "_resets", "now")

    def __init__(self, limits: ConnectionLimits) -> None:
        self.now = 0.0
        """The caller's clock, in seconds."""
        self._resets = Budget(limits.resets_per_second, limits.resets_burst)
        self._overhead = Budget(limits.overhead_per_second, limits.overhead_burst)

    def overhead(self) -> None:
        """A frame that carries nothing."""
        if not self._overhead.spend(self.now):
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that carry nothing")

    def reset(self) -> None:
        """A stream that ended early, by the peer or by its fault."""
        if not self._resets.spend(self.now):
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "too many streams reset")

    def sent(self, length: int, complete: bool) -> None:
        """What we send earns the peer the right to answer it: with WINDOW_UPDATE, or PING to measure the bandwidth.

        By the byte, so that nobody gains by making us send in crumbs (CVE-2019-9511).
        """
        self._overhead.earn(length / 1024 + (4 if complete else 0))
