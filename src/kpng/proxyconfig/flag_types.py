"""How the values of kube-proxy's flags are written (Go's pflag)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from .duration import Duration
from .types import FlushFrequency, VModuleItem


class FlagType(click.ParamType[Any]):
    """A parser that raises ValueError, as a type of click."""

    def __init__(self, metavar: str, parse: Callable[[str], Any]) -> None:
        self.name = metavar
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value.removeprefix("=")) if isinstance(value, str) else value  # -v=2
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _boolean(text: str) -> bool:
    """What Go takes (strconv.ParseBool)."""
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError(f"{text[:40]!r} is neither true nor false")


def _number(text: str) -> int:
    if not text.removeprefix("-").isdecimal():
        raise ValueError(f"{text[:40]!r} is not a whole number")
    return int(text)


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _gates(text: str) -> dict[str, bool]:
    pairs = (part.partition("=") for part in _list(text))
    return {name.strip(): _boolean(value.strip()) for name, _, value in pairs}


def _vmodule(text: str) -> list[VModuleItem]:
    pairs = (part.rpartition("=") for part in _list(text))
    return [VModuleItem(file_pattern=pattern, verbosity=_number(level)) for pattern, _, level in pairs]


STRING = FlagType("TEXT", str)
BOOLEAN = FlagType("true|false", _boolean)
NUMBER = FlagType("N", _number)
DECIMAL = FlagType("X", float)
DURATION = FlagType("DURATION", Duration.parse)
FLUSH = FlagType("DURATION", FlushFrequency.parse)
LIST = FlagType("CIDR[,CIDR]", _list)
GATES = FlagType("NAME=true|false,...", _gates)
VMODULE = FlagType("PATTERN=N,...", _vmodule)
