"""Lenient decoding: what is wrong in an object is noted and left out, the rest of it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from kpng.model import InvalidObjectError, IPSet, Problem, parse_address

M = TypeVar("M", bound=Message)

_HIGHEST_PORT = 65535


class Faults:
    """Collects what is wrong with one object (``subject``, as in `Problem`) while it is decoded."""

    __slots__ = ("_origin", "problems", "subject")

    def __init__(self, subject: str, origin: str = "") -> None:
        self.subject = subject
        self._origin = origin
        self.problems: list[Problem] = []

    def add(self, field: str, message: str) -> None:
        self.problems.append(Problem(self.subject, field, message, self._origin))

    def message(self, kind: type[M], data: bytes) -> M | None:
        """Parse bytes; None if they are no such message."""
        try:
            return kind.FromString(data)
        except DecodeError:
            self.add("", f"{len(data)} bytes that are no {kind.DESCRIPTOR.full_name}")
            return None

    def name(self, check: Callable[[str, str], str], text: str, field: str) -> str:
        """The name; "" where there is none, or none that can be used, which is noted."""
        try:
            return check(text, field) if text else ""
        except InvalidObjectError as error:
            self.add(error.field, error.message)
            return ""

    def texts(self, texts: Iterable[str], field: str, parse: Callable[[str, str], str]) -> tuple[str, ...]:
        """The canonical form of those texts that ``parse(text, field)`` accepts."""
        good = []
        for text in texts:
            try:
                good.append(parse(text, field))
            except InvalidObjectError as error:
                self.add(error.field, error.message)
        return tuple(good)

    def addresses(
        self, texts: Iterable[str], field: str, parse: Callable[[str, str], str] = parse_address
    ) -> IPSet:
        good = self.texts(texts, field, parse)
        if len(good) == 1:  # as nearly always; no need to look for order
            return IPSet((), good) if ":" in good[0] else IPSet(good)
        return IPSet.of(good)

    def port(self, number: int, field: str, *, optional: bool = False) -> int:
        """The number if it is a port, else 0. Where it is optional, 0 (unset) is no fault."""
        if 1 <= number <= _HIGHEST_PORT:
            return number
        if number or not optional:
            self.add(field, f"{number} is not a port (1-{_HIGHEST_PORT})")
        return 0
