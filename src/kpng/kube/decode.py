"""Bytes or plain data -> typed Kubernetes objects, with an error that names object and field."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from kpng.model.shape import split_validation_error

from .convert.common import subject_of
from .objects import AnyObject, Metadata, Object

T = TypeVar("T", bound=Object)

MALFORMED = (msgspec.DecodeError, RecursionError)
"""What decoding raises; the second for an object nested thousands of levels deep."""

_anything = msgspec.json.Decoder(AnyObject)


class DecodeError(ValueError):
    """An object that does not have the shape its kind has."""

    def __init__(self, subject: str, field: str, message: str) -> None:
        super().__init__(f"{subject}: {field}: {message}")
        self.subject = subject
        self.field = field
        self.message = message


def decode_json(decoder: msgspec.json.Decoder[T], kind: str, raw: bytes | msgspec.Raw) -> T:
    """Decode an object that the API server sent. Raises `DecodeError`."""
    try:
        return decoder.decode(raw)
    except MALFORMED as error:
        raise _decode_error(kind, metadata_of(raw), error) from None


def decode_plain(kind: str, cls: type[T], data: object) -> T:
    """Decode an object out of plain dicts and lists (YAML). Raises `DecodeError`."""
    try:
        return msgspec.convert(data, cls)
    except msgspec.ValidationError as error:
        try:
            metadata = msgspec.convert(data, AnyObject).metadata
        except msgspec.ValidationError:
            metadata = Metadata()
        raise _decode_error(kind, metadata, error) from None


def metadata_of(raw: bytes | msgspec.Raw) -> Metadata:
    """The metadata of any object; empty where even that does not decode."""
    try:
        return _anything.decode(raw).metadata
    except MALFORMED:
        return Metadata()


def _decode_error(kind: str, metadata: Metadata, error: msgspec.DecodeError | RecursionError) -> DecodeError:
    subject = subject_of(kind, metadata, namespaced=kind != "Node")
    return DecodeError(subject, *split_validation_error(error))
