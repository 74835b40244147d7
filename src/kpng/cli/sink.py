"""What the commands of sinks have in common."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from kpng.store import Store

SINKS = ("to-api", "to-file", "to-local")
"""Their commands, each in the module of that name."""


@dataclass(frozen=True)
class Sink:
    """What a sink command returns. ``run`` takes the store on until cancelled, or with ``once`` until the first
    state has been taken. ``node``: the one Node that matters to it; "": all of them may."""

    run: Callable[[Store], Coroutine[Any, Any, None]]
    once: bool = False
    node: str = ""
