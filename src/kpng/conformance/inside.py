"""A private network namespace for as long as some work takes, which runs inside."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from kpng.lab.netns import CommandError, Namespace
from kpng.model import UserError

from .network import PREFIX, remove_remains

T = TypeVar("T")

Work = Callable[[Namespace], Coroutine[Any, Any, T]]

_TUN = Path("/dev/net/tun")
_TOOLS = {"ip": "iproute2", "nft": "nftables"}


def check_machine() -> None:
    """Raise `UserError` where real packets cannot be sent."""
    if os.geteuid() != 0:
        raise UserError("the conformance run needs root: it makes a network namespace and sends packets in it")
    for tool, package in _TOOLS.items():
        if shutil.which(tool) is None:
            raise UserError(
                f"the conformance run needs the command {tool!r}: install it, for example with "
                f"'apt-get install {package}'"
            )
    if not _TUN.exists():
        raise UserError(f"the conformance run needs TUN devices: this machine has no {_TUN}")


async def run_inside(work: Work[T]) -> T:
    """Run ``work`` in an event loop whose thread is in a namespace of its own; afterwards that is removed, also if
    we are cancelled. Raises `UserError` where this machine does not allow it."""
    check_machine()
    remove_remains()
    try:
        with Namespace(f"{PREFIX}{os.getpid()}") as namespace, namespace.executor() as executor:
            loop = asyncio.new_event_loop()
            task = loop.create_task(work(namespace))
            future = asyncio.get_running_loop().run_in_executor(executor, _drive, loop, task)
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                loop.call_soon_threadsafe(task.cancel)
                await asyncio.gather(future, return_exceptions=True)
                raise
    except CommandError as error:
        raise UserError(f"the conformance run cannot prepare its network: {error}") from None


def _drive(loop: asyncio.AbstractEventLoop, task: asyncio.Task[T]) -> T:
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(task)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
