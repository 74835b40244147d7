"""Long work in small steps, so that other streams and health checks are not held up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TypeVar

from .grpc import ServerCall

T = TypeVar("T")

STEP = 32
"""Items between two pauses: a few milliseconds' work where nothing has been made yet."""

_BUFFERS_PER_SEND = 1024


async def in_steps(work: Iterable[T]) -> list[T]:
    """All items of an iterable that works for each; pauses between steps."""
    done: list[T] = []
    for item in work:
        done.append(item)
        if len(done) % STEP == 0:
            await asyncio.sleep(0)
    return done


async def send_all(call: ServerCall, buffers: list[bytes]) -> None:
    """Send any number of buffers, at the reader's pace."""
    for start in range(0, len(buffers), _BUFFERS_PER_SEND):
        await call.send(buffers[start : start + _BUFFERS_PER_SEND])
