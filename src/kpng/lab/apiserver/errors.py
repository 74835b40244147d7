"""Failures in the words and shape of the real API server: a Status object with code, reason, message, details."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from kpng.lab.apiserver.registry import Kind, Object


class ApiError(Exception):
    """What a request is refused with."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details

    def status(self) -> Object:
        """The Status object to answer with."""
        status: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        status |= {"message": self.message, "reason": self.reason, "code": self.code}
        return status | ({"details": self.details} if self.details else {})


@dataclass(frozen=True)
class FieldError:
    """One fault of one field, as kubectl prints it."""

    reason: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"

    def cause(self) -> Object:
        return {"reason": self.reason, "message": self.message, "field": self.field}


def quoted(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def invalid_value(field: str, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", field, f"Invalid value: {quoted(value)}: {detail}")


def required(field: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", field, f"Required value: {detail}" if detail else "Required value")


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError("FieldValueDuplicate", field, f"Duplicate value: {quoted(value)}")


def unsupported(field: str, value: Any, supported: Sequence[str]) -> FieldError:
    choices = ", ".join(quoted(choice) for choice in supported)
    message = f"Unsupported value: {quoted(value)}: supported values: {choices}"
    return FieldError("FieldValueNotSupported", field, message)


def forbidden_field(field: str, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", field, f"Forbidden: {detail}")


def _details(kind: Kind, name: str) -> Object:
    return {"name": name, "kind": kind.plural} | ({"group": kind.group} if kind.group else {})


def not_found(kind: Kind, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{kind.resource} "{name}" not found', _details(kind, name))


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(kind: Kind, name: str) -> ApiError:
    return ApiError(409, "AlreadyExists", f'{kind.resource} "{name}" already exists', _details(kind, name))


def conflict(kind: Kind, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(kind, name))


def modified(kind: Kind, name: str) -> ApiError:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(kind, name, why)


def invalid(kind: str, name: str, faults: Sequence[FieldError], group: str = "") -> ApiError:
    """422 over all ``faults``; ``kind`` is the qualified kind, as "EndpointSlice.discovery.k8s.io"."""
    text = str(faults[0]) if len(faults) == 1 else f"[{', '.join(map(str, faults))}]"
    details = {"name": name, "kind": kind.partition(".")[0], "causes": [fault.cause() for fault in faults]}
    details |= {"group": group} if group else {}
    return ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {text}', details)


def terminating(kind: Kind, name: str, namespace: str) -> ApiError:
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    return ApiError(403, "Forbidden", f'{kind.resource} "{name}" is forbidden: {why}', _details(kind, name))


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def too_old(revision: int, oldest: int) -> ApiError:
    return expired(f"too old resource version: {revision} ({oldest})")


def too_large(revision: int, current: int) -> ApiError:
    """A list at a revision that has not happened yet; the real one waits 3 s first."""
    message = f"Too large resource version: {revision}, current: {current}"
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return ApiError(504, "Timeout", f"Timeout: {message}", {"causes": [cause], "retryAfterSeconds": 1})


def method_not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def not_acceptable() -> ApiError:
    return ApiError(406, "NotAcceptable", "only the following media types are accepted: application/json")


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    text = "the body of the request was in an unknown format - accepted media types include: "
    return ApiError(415, "UnsupportedMediaType", text + ", ".join(accepted))


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")
