"""Backends are found by entry points (group ``kpng.backends``): ours and everybody's alike."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract

from kpng.model import UserError

from .contract import Backend

GROUP = "kpng.backends"


def backend_names() -> list[str]:
    """Names of all installed backends, without importing any."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def load_backend(name: str) -> type[Backend]:
    """Import a backend's class by name. Raises `UserError` if there is none or it cannot be imported."""
    found = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not found:
        raise UserError(f"no backend named {name!r}; installed: {', '.join(backend_names())}")
    if len({entry.value for entry in found}) > 1:
        packages = ", ".join(sorted(entry.dist.name if entry.dist else entry.value for entry in found))
        raise UserError(f"several installed packages offer a backend {name!r}: {packages}")
    return _load(found[0])


def _load(entry: EntryPoint) -> type[Backend]:
    try:
        loaded = entry.load()
    except Exception as error:
        raise UserError(f"backend {entry.name!r} ({entry.value}) cannot be imported: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Backend)):
        raise UserError(f"backend {entry.name!r} ({entry.value}) is not a subclass of kpng.Backend")
    if isabstract(loaded):
        raise UserError(f"backend {entry.name!r} ({entry.value}) does not define apply()")
    return loaded
