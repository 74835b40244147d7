"""The configuration file, once it has changed: the process ends, to be started anew with it (semantics U3)."""

from __future__ import annotations

import logging
from pathlib import Path

from watchfiles import awatch

log = logging.getLogger(__name__)


class ConfigurationChangedError(Exception):
    """The file holds something else than what the process was started with."""


async def until_changed(path: str, content: bytes) -> None:
    """Raises `ConfigurationChangedError` once the file has other content than ``content``.

    Its directory is watched, so that a file put in its place is seen, and a ConfigMap, which changes by a symbolic
    link beside it. While there is no file, or it is empty (just being written), nothing is decided.
    """
    file = Path(path)
    _check(file, content)
    async for _ in awatch(file.parent, recursive=False, debounce=50, step=20):
        _check(file, content)


def _check(file: Path, content: bytes) -> None:
    try:
        found = file.read_bytes()
    except OSError as error:
        log.debug("%s: %s", file, error)
        return
    if found not in (content, b""):
        raise ConfigurationChangedError(f"the configuration in {file} has changed; ending, to be started with it")
