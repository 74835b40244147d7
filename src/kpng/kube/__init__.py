"""Kubernetes as a source: list and watch, objects -> model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .access import AccessOptions
from .convert import DEFAULT_NODE_LABELS, Converter, Filters

if TYPE_CHECKING:
    from .source import KubeOptions, KubeSource

__all__ = ["DEFAULT_NODE_LABELS", "AccessOptions", "Converter", "Filters", "KubeOptions", "KubeSource"]


def __getattr__(name: str) -> Any:
    """The source on first use: it needs aiohttp, and the file source, which converts manifests, does not."""
    if name in ("KubeOptions", "KubeSource"):
        from . import source  # noqa: PLC0415

        return getattr(source, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
