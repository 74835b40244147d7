"""Durations as Go writes them: "1h30m", "0s", "1.5s", "-2m" (Go package time, ParseDuration)."""

from __future__ import annotations

import re
from functools import total_ordering

_UNITS = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ns": 1,
}
_PART = re.compile(r"(?P<whole>[0-9]*)(?:\.(?P<fraction>[0-9]*))?(?P<unit>h|ms|m|us|µs|μs|ns|s)")
_LIMIT = 1 << 63


@total_ordering
class Duration:
    """A span of time in whole nanoseconds. Immutable."""

    __slots__ = ("nanoseconds",)
    nanoseconds: int

    def __init__(self, nanoseconds: int = 0) -> None:
        object.__setattr__(self, "nanoseconds", nanoseconds)

    def __setattr__(self, name: str, _value: object) -> None:
        raise AttributeError(name)

    @classmethod
    def seconds_of(cls, seconds: float) -> Duration:
        return cls(round(seconds * 1e9))

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Raises ValueError with a sentence for people."""
        sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
        if rest == "0":
            return cls()
        total, position = 0, 0
        while position < len(rest) or not rest:
            part = _PART.match(rest, position)
            if part is None or not (part["whole"] or part["fraction"]):
                raise ValueError(f"{text[:40]!r} is not a duration such as 30s, 1h30m or 0s")
            total += _nanoseconds(part)
            position = part.end()
        if total >= _LIMIT:
            raise ValueError(f"{text[:40]!r} is too long a duration")
        return cls(sign * total)

    @property
    def seconds(self) -> float:
        return self.nanoseconds / 1e9

    def __str__(self) -> str:
        """Go's own form (Duration.String): "1h30m0s", "1.5s", "250ms"."""
        sign = "-" if self.nanoseconds < 0 else ""
        return sign + _text(abs(self.nanoseconds))

    def __repr__(self) -> str:
        return f"Duration({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and self.nanoseconds == other.nanoseconds

    def __lt__(self, other: Duration) -> bool:
        return self.nanoseconds < other.nanoseconds

    def __hash__(self) -> int:
        return hash(self.nanoseconds)

    def __bool__(self) -> bool:
        return self.nanoseconds != 0


def _nanoseconds(part: re.Match[str]) -> int:
    """One number with its unit; what is finer than a nanosecond is cut off, as Go does."""
    unit = _UNITS[part["unit"]]
    fraction = part["fraction"] or ""
    scale: int = 10 ** len(fraction)
    return int(part["whole"] or "0") * unit + int(fraction or "0") * unit // scale


def _text(nanoseconds: int) -> str:
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if nanoseconds < size * 1000:
            return _decimal(nanoseconds, size) + unit
    minutes, rest = divmod(nanoseconds, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    leading = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{leading}{_decimal(rest, _UNITS['s'])}s"


def _decimal(value: int, unit: int) -> str:
    """``value / unit`` exactly, without trailing zeros; ``unit`` is a power of ten."""
    whole, rest = divmod(value, unit)
    digits = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)
