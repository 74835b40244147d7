"""The configuration file, once it has changed: the process ends, to be started anew with it (semantics U3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from watchfiles import awatch

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 10.0


class ConfigurationChangedError(Exception):
    """The file holds something else than what the process was started with."""


async def until_changed(path: str, content: bytes) -> None:
    """Raises `ConfigurationChangedError` once the file has other content than ``content``.

    Its directory is watched, so that a file put in its place is seen, and a ConfigMap, which changes by a symbolic
    link beside it. What a directory does not show (a link to elsewhere), or where none can be watched, is seen when
    the time comes to look again. While there is no file, or it is empty (just being written), nothing is decided.
    """
    file = Path(path)
    while True:
        _check(file, content)
        try:
            async for _ in _events(file.parent):
                _check(file, content)
        except (OSError, RuntimeError) as error:  # watchfiles' own where no inotify instance is left is the latter
            log.debug("%s cannot be watched: %s", file.parent, error)
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


def _events(folder: Path) -> AsyncIterator[object]:
    return awatch(
        folder,
        watch_filter=None,
        debounce=50,
        step=20,
        rust_timeout=int(LOOK_AGAIN_SECONDS * 1000),
        yield_on_timeout=True,
        recursive=False,
    )


def _check(file: Path, content: bytes) -> None:
    try:
        found = file.read_bytes()
    except OSError as error:
        log.debug("%s: %s", file, error)
        return
    if found not in (content, b""):
        raise ConfigurationChangedError(f"the configuration in {file} has changed; ending, to be started with it")
