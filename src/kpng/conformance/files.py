"""Data files: those in the package, and files of the same form."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import msgspec

from kpng.model import UserError

T = TypeVar("T")


def load(path: str | None, default: str, form: type[T]) -> T:
    """Read ``path``, else ``default`` from the package. Raises `UserError` that names file and place."""
    name = path or default
    try:
        content = Path(path).read_bytes() if path else (files(__package__) / "data" / default).read_bytes()
        return msgspec.json.decode(content, type=form)
    except OSError as error:
        raise UserError(f"{name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{name}: not UTF-8") from None
    except msgspec.ValidationError as error:
        raise UserError(f"{name}: not of the expected form: {error}") from None
    except msgspec.DecodeError as error:
        raise UserError(f"{name}: not JSON: {error}") from None
