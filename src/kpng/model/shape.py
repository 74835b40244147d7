"""Data that does not have the shape it should have: msgspec's errors in the words of a `Problem`."""

from __future__ import annotations

import re

import msgspec

_PATH = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`$")


def split_validation_error(error: msgspec.DecodeError | RecursionError) -> tuple[str, str]:
    """msgspec's message as (field, message)."""
    text = str(error)
    at = _PATH.search(text)
    message = (text[: at.start()] if at else text).replace("`", "").replace(" | null", "")
    return (at["path"] if at else ""), message[:1].lower() + message[1:]
