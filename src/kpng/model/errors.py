"""The two families of errors (design, decision 7), and problems: bad objects that are skipped and named."""

from __future__ import annotations

from msgspec import Struct


class UserError(Exception):
    """Something the user can mend: a bad flag, file or permission. One clear line, exit code 2, no traceback."""


class Problem(Struct, frozen=True, order=True):
    """One fault in one object. The object (or just the field) is left out; everything else goes on.

    ``origin`` says where it came from (a file name, an API server, ""), ``subject`` which object
    ("Service demo/web"), ``field`` which field in Kubernetes' spelling ("spec.ports[0].port").
    """

    subject: str
    field: str
    message: str
    origin: str = ""

    def __str__(self) -> str:
        where = f"{self.origin}: " if self.origin else ""
        field = f"{self.field}: " if self.field else ""
        return f"{where}{self.subject}: {field}{self.message}"


class InvalidObjectError(ValueError):
    """Raised by checks in the model; carries the field so that callers can name it in a `Problem`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message
