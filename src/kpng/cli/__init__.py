"""The command line: only wiring."""

from .root import main

__all__ = ["main"]
