"""Ending on a signal: at once, and never later than two seconds."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

STOP_SECONDS = 1.5


async def run_until_signal(work: Coroutine[Any, Any, T]) -> T | None:
    """Await ``work``; SIGINT, SIGTERM, or a SIGHUP that is not to be ignored (nohup(1)) cancels it and makes this
    return None.

    What does not end within `STOP_SECONDS`, or on a second signal, is ended with the process (exit code 1):
    nothing that kpng holds needs a longer goodbye. That holds for what comes after the work as well (threads
    that the interpreter waits for), so after a signal the caller must be on its way out.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if stopping:
            os._exit(1)
        stopping = True
        watchdog = threading.Timer(STOP_SECONDS, os._exit, (1,))
        watchdog.daemon = True
        watchdog.start()
        task.cancel()

    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # by itself it would end us on the spot
        signals.append(signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if stopping:
            return None
        raise
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
