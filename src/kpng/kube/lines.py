"""A byte stream cut into lines, whatever the chunks it comes in."""

from __future__ import annotations

MAX_LINE = 64 * 1024 * 1024
"""Far beyond what etcd stores (1.5 MiB); a longer "line" is no Kubernetes watch."""


class LineTooLongError(ValueError):
    """A line longer than `MAX_LINE`."""


class LineSplitter:
    """Give chunks, get whole lines; each byte is copied a bounded number of times."""

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._max_line = max_line
        self._pieces: list[bytes] = []
        self._length = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends; empty lines are dropped.

        Raises `LineTooLongError`.
        """
        head, newline, rest = chunk.partition(b"\n")
        self._pieces.append(head)
        self._length += len(head)
        if self._length > self._max_line:
            raise LineTooLongError(f"a line of more than {self._max_line} bytes")
        if not newline:
            return []
        *lines, tail = rest.split(b"\n")
        lines.insert(0, b"".join(self._pieces))
        self._pieces, self._length = [tail], len(tail)
        return [line for line in lines if line]
