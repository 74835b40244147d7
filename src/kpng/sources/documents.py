"""A file's text -> its documents: YAML or JSON."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kpng.wire.yaml import YAMLSyntaxError, load_documents

Document = tuple[int, object]
"""(line it begins on, data)."""


class UnreadableError(Exception):
    """A file that is not to be trusted as a whole; ``line`` 0 where there is none."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def read_documents(content: bytes) -> Iterator[Document]:
    """All documents. Raises `UnreadableError`; also for an empty file, which is one that is just being written."""
    if not content.strip():
        raise UnreadableError(0, "the file is empty")
    if content.lstrip()[:1] == b"{":
        try:
            yield 1, msgspec.json.decode(content)
            return
        except (msgspec.DecodeError, RecursionError):
            pass  # YAML in flow style, several JSON documents, or broken: the YAML parser says where
    try:
        yield from load_documents(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UnreadableError(content.count(b"\n", 0, error.start) + 1, "not UTF-8 text") from None
    except YAMLSyntaxError as error:
        raise UnreadableError(error.line, f"not valid YAML: {error.message}") from None
