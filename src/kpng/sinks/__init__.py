"""Sinks that are neither an API nor a backend: the global state as a file."""

from .file import write_state_file

__all__ = ["write_state_file"]
