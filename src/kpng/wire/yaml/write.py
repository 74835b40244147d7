"""Plain data -> YAML text: one obvious form, fast (PyYAML's dumper takes half a minute for a large cluster).

Blocks, with collections of nothing but scalars on one line. Strings are quoted wherever any YAML parser could take
them for something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import yaml

from .read import Data, resolve_scalar

_PLAIN = re.compile(r"[A-Za-z_][-A-Za-z0-9_./]*|[0-9]{1,3}(\.[0-9]{1,3}){3}(/[0-9]{1,2})?")
_INDENT = "  "
_ALSO_BOOLEAN = ("y", "Y", "n", "N")
"""To YAML 1.1, though not to the parsers that Kubernetes and we use."""


def write_yaml(data: dict[str, Data]) -> str:
    """One document. Reading it back gives the same data."""
    return "".join(f"{line}\n" for line in _block(data, ""))


def _block(data: dict[str, Data] | list[Data], indent: str) -> Iterator[str]:
    """The lines of a collection; lists are not indented beneath their key."""
    if isinstance(data, list):
        for item in data:
            first, *rest = _lines(item, indent + _INDENT)
            yield f"{indent}- {first.removeprefix(indent + _INDENT)}"
            yield from rest
        return
    for key, value in data.items():
        if _on_one_line(value):
            yield f"{indent}{_scalar(key)}: {_inline(value)}"
        else:
            yield f"{indent}{_scalar(key)}:"
            yield from _lines(value, indent if isinstance(value, list) else indent + _INDENT)


def _lines(value: Data, indent: str) -> Iterator[str]:
    if isinstance(value, dict | list) and not _on_one_line(value):
        return _block(value, indent)
    return iter((indent + _inline(value),))


def _on_one_line(value: Data) -> bool:
    if isinstance(value, dict):
        return not any(isinstance(item, dict | list) for item in value.values())
    return not isinstance(value, list) or not any(isinstance(item, dict | list) for item in value)


def _inline(value: Data) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_scalar(key)}: {_scalar(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    return _scalar(value)


def _scalar(value: Data) -> str:
    if isinstance(value, str):
        return _string(value)
    return json.dumps(value)


def _string(text: str) -> str:
    """Plain, quoted as JSON, or, with characters that YAML wants escaped in its own way, by PyYAML."""
    if text not in _ALSO_BOOLEAN and _PLAIN.fullmatch(text) and isinstance(resolve_scalar(text), str):
        return text
    if text.isascii() and text.isprintable():
        return json.dumps(text)
    return yaml.dump(text, Dumper=yaml.CSafeDumper, default_style='"', width=2**31 - 1).rstrip("\n")
