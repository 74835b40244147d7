"""Long work in small steps, so that other streams and health checks are not held up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from .grpc import ServerCall

T = TypeVar("T")

STEP = 32
"""Items between two pauses: a few milliseconds' work where nothing has been made yet."""

_BUFFERS_PER_SEND = 1024
_BYTES_PER_SEND = 256 * 1024


async def in_steps(work: Iterable[T]) -> list[T]:
    """All items of an iterable that works for each; pauses between steps."""
    done: list[T] = []
    for item in work:
        done.append(item)
        if len(done) % STEP == 0:
            await asyncio.sleep(0)
    return done


async def send_all(call: ServerCall, buffers: Iterable[bytes], taken: Callable[[], None]) -> None:
    """Send any number of buffers, at the reader's pace: they are asked for more when there is room. ``taken`` is
    called for each part that has gone."""
    part: list[bytes] = []
    size = 0
    for buffer in buffers:
        part.append(buffer)
        size += len(buffer)
        if size >= _BYTES_PER_SEND or len(part) >= _BUFFERS_PER_SEND:
            await call.send(part)
            taken()
            await asyncio.sleep(0)  # there may be room all the time
            part, size = [], 0
    if part:
        await call.send(part)
        taken()
