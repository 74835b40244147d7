"""What the conversions share: a collector of faults, and the checks of single values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TypeVar

from kpng.kube.objects import Metadata
from kpng.model import Family, InvalidObjectError, Problem, Protocol, check_name, check_zone, quoted

T = TypeVar("T")
V = TypeVar("V")

FAMILY_NAMES = {"IPv4": Family.IPV4, "IPv6": Family.IPV6}
"""As ``spec.ipFamilies`` and ``addressType`` spell them."""

_PROTOCOLS = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}


class Faults:
    """Collects the problems of one object while it is converted.

    A field is given as a template (``ports[{}].name``) and the numbers for it, which are put in only where there is
    something to tell: nearly all values are good, and there are very many.
    """

    __slots__ = ("origin", "problems", "subject")

    def __init__(self, subject: str, origin: str) -> None:
        self.subject = subject
        self.origin = origin
        self.problems: list[Problem] = []

    def add(self, field: str, message: str, *at: int) -> None:
        self.problems.append(Problem(self.subject, field.format(*at) if at else field, message, self.origin))

    def extend(self, problems: Iterable[Problem]) -> None:
        """Note problems that were found in a part, which other objects have too, as this object's."""
        for problem in problems:
            self.add(problem.field, problem.message)

    def check(self, check: Callable[[V], T], value: V, field: str, *at: int) -> T | None:
        """The value as ``check(value)`` returns it; None, and a problem noted, where it refuses."""
        try:
            return check(value)
        except InvalidObjectError as error:
            self.add(field, error.message, *at)
            return None

    def name(self, check: Callable[[str], str], text: str | None, field: str, *at: int) -> str:
        """The name; "" where there is none, or none that can be used, which is noted."""
        if not text:
            return ""
        try:
            return check(text)
        except InvalidObjectError as error:
            self.add(field, error.message, *at)
            return ""

    def port(self, number: int | None, field: str, *at: int) -> bool:
        """Whether this is a port number that can be used; a problem is noted where not."""
        if number is not None and 1 <= number <= 65535:
            return True
        self.add(field, "not set" if number is None else f"{number} is not a port number (1 to 65535)", *at)
        return False

    def protocol(self, text: str | None, field: str, *at: int) -> Protocol | None:
        """The protocol; TCP where it is left out, as the API defaults it."""
        protocol = _PROTOCOLS.get(text or "TCP")
        if protocol is None:
            self.add(field, f"{quoted(text or '')} is not a protocol (TCP, UDP, SCTP)", *at)
        return protocol


def subject_of(kind: str, metadata: Metadata, *, namespaced: bool = True) -> str:
    """How problems name an object: ``Service demo/web``, ``Node n1``; ``?`` where the name is missing."""
    name = metadata.name or "?"
    return f"{kind} {metadata.namespace or 'default'}/{name}" if namespaced else f"{kind} {name}"


def check_identity(metadata: Metadata, faults: Faults, *, namespaced: bool = True) -> bool:
    """Whether the object has a usable name and namespace."""
    if not metadata.name:
        faults.add("metadata.name", "not set")
        return False
    name = faults.name(check_name, metadata.name, "metadata.name")
    if not namespaced:
        return bool(name)
    return bool(faults.name(shared_name, metadata.namespace or "default", "metadata.namespace") and name)


@lru_cache(maxsize=16384)
def shared_name(text: str) -> str:
    """`check_name` for what many objects name (a Node, a namespace): one string for all of them."""
    return check_name(text)


@lru_cache(maxsize=1024)
def shared_zone(text: str) -> str:
    """`check_zone`, one string for all in the zone."""
    return check_zone(text)
