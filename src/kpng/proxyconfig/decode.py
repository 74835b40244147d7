"""Text -> configuration, strictly; what is wrong but can be read anyway becomes a warning (semantics U2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from kpng.model import UserError, quoted
from kpng.model.shape import split_validation_error
from kpng.wire.yaml import Data, YAMLSyntaxError, load_documents

from .duration import Duration
from .fields import is_section, section_fields
from .types import API_VERSION, KIND, FlushFrequency, KubeProxyConfiguration, Section


class Reading(Struct, frozen=True):
    """What a file says, before defaults, and what a strict reader would have refused in it."""

    config: KubeProxyConfiguration
    warnings: tuple[str, ...] = ()


def read_configuration(content: bytes, origin: str) -> Reading:
    """Read YAML or JSON. ``origin`` (the file's name) begins every message.

    Fields that do not exist are ignored, of two equal ones the last wins; both are named in the warnings.
    Raises `kpng.UserError` for what cannot be read at all, or is no KubeProxyConfiguration.
    """
    warnings: list[str] = []

    def twice(line: int, key: str) -> None:
        warnings.append(f"{origin}:{line}: {key} is given twice; the last one counts")

    document = _one_document(content, origin, twice)
    _check_kind(document, origin)
    warnings += [f"{origin}: unknown field {path}; it is ignored" for path in unknown_fields(document)]
    return Reading(_convert(document, origin), tuple(warnings))


def _one_document(content: bytes, origin: str, twice: Any) -> dict[str, Data]:
    try:
        documents = list(load_documents(content.decode("utf-8-sig"), twice))
    except UnicodeDecodeError:
        raise UserError(f"{origin}: not UTF-8 text") from None
    except YAMLSyntaxError as error:
        raise UserError(f"{origin}:{error.line}: not valid YAML: {error.message}") from None
    if len(documents) != 1:
        raise UserError(f"{origin}: holds {len(documents)} documents; it must be one {KIND}")
    _, document = documents[0]
    if not isinstance(document, dict):
        raise UserError(f"{origin}: is no mapping; it must be one {KIND}")
    return document


def _check_kind(document: dict[str, Data], origin: str) -> None:
    for field, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        found = document.get(field)
        if found != wanted:
            shown = quoted(found) if isinstance(found, str) else "missing"
            raise UserError(f"{origin}: {field}: {shown}; it must be {wanted}")


def unknown_fields(
    document: dict[str, Data], section: type[Section] = KubeProxyConfiguration, prefix: str = ""
) -> Iterator[str]:
    """Paths of what the configuration has no field for."""
    fields = section_fields(section)
    for name, value in document.items():
        if name not in fields:
            yield prefix + name
        elif is_section(fields[name][1]) and isinstance(value, dict):
            yield from unknown_fields(value, fields[name][1], f"{prefix}{name}.")


def _convert(document: dict[str, Data], origin: str) -> KubeProxyConfiguration:
    try:
        return msgspec.convert(_without_nulls(document), KubeProxyConfiguration, dec_hook=_duration)
    except msgspec.ValidationError as error:
        field, message = split_validation_error(error)
        raise UserError(f"{origin}: {field}: {message}") from None


def _without_nulls(data: dict[str, Data]) -> dict[str, Data]:
    """To the API null is the same as nothing."""
    kept = {name: value for name, value in data.items() if value is not None}
    return {name: _without_nulls(value) if isinstance(value, dict) else value for name, value in kept.items()}


def _duration(kind: type, value: Any) -> Any:
    if kind is FlushFrequency and isinstance(value, int) and not isinstance(value, bool):
        return FlushFrequency(value)
    if issubclass(kind, Duration):
        if not isinstance(value, str):
            raise ValueError("a duration must be a string such as 30s")
        return kind.parse(value)
    raise NotImplementedError(kind)
