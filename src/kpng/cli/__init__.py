"""The command line: only wiring."""

from __future__ import annotations

import signal

__all__ = ["main"]


def main() -> None:
    """Entry point of the command."""
    # Until the event loop heeds it Ctrl-C just ends us, without a traceback of whatever import it came into.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .root import main as run  # noqa: PLC0415 - takes most of the time of the start

    run()
