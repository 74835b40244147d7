"""Fields by their path in the API's spelling: ``nftables.syncPeriod``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, get_type_hints

from msgspec import structs

from .types import KubeProxyConfiguration, Section

_IDENTITY = ("apiVersion", "kind")


@cache
def section_fields(section: type[Section]) -> dict[str, tuple[str, Any]]:
    """By name in the API: (name in Python, type)."""
    hints = get_type_hints(section)
    return {found.encode_name: (found.name, hints[found.name]) for found in structs.fields(section)}


def is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def leaf_paths(section: type[Section] = KubeProxyConfiguration, prefix: str = "") -> Iterator[str]:
    """Each field that is not a section, in the order of the API; without apiVersion and kind."""
    for api, (_, kind) in section_fields(section).items():
        if is_section(kind):
            yield from leaf_paths(kind, f"{prefix}{api}.")
        elif prefix or api not in _IDENTITY:
            yield prefix + api


def _owner(config: Section, path: str) -> tuple[Section, str]:
    *sections, last = path.split(".")
    for part in sections:
        config = getattr(config, section_fields(type(config))[part][0])
    return config, section_fields(type(config))[last][0]


def get_field(config: KubeProxyConfiguration, path: str) -> Any:
    """Raises KeyError for a path that does not exist."""
    owner, name = _owner(config, path)
    return getattr(owner, name)


def set_field(config: KubeProxyConfiguration, path: str, value: Any) -> None:
    owner, name = _owner(config, path)
    setattr(owner, name, value)
