"""What the conversions share: a collector of faults, and the checks of single values."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TypeVar

from kpng.kube.objects import Metadata
from kpng.model import Family, InvalidObjectError, Problem, Protocol, check_name, parse_address, quoted

T = TypeVar("T")

FAMILY_NAMES = {"IPv4": Family.IPV4, "IPv6": Family.IPV6}
"""As ``spec.ipFamilies`` and ``addressType`` spell them."""

_PROTOCOLS = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}


class Faults:
    """Collects the problems of one object while it is converted."""

    def __init__(self, subject: str, origin: str) -> None:
        self.subject = subject
        self.origin = origin
        self.problems: list[Problem] = []

    def add(self, field: str, message: str) -> None:
        self.problems.append(Problem(self.subject, field, message, self.origin))

    def check(self, check: Callable[[str, str], T], value: str, field: str) -> T | None:
        """The value as ``check(value, field)`` returns it; None, and a problem noted, where it refuses."""
        try:
            return check(value, field)
        except InvalidObjectError as error:
            self.add(error.field, error.message)
            return None

    def name(self, check: Callable[[str, str], str], text: str | None, field: str) -> str:
        """The name; "" where there is none, or none that can be used, which is noted."""
        return (self.check(check, text, field) or "") if text else ""

    def port(self, number: int | None, field: str) -> bool:
        """Whether this is a port number that can be used; a problem is noted where not."""
        if number is not None and 1 <= number <= 65535:
            return True
        self.add(field, "not set" if number is None else f"{number} is not a port number (1 to 65535)")
        return False

    def protocol(self, text: str | None, field: str) -> Protocol | None:
        """The protocol; TCP where it is left out, as the API defaults it."""
        protocol = _PROTOCOLS.get(text or "TCP")
        if protocol is None:
            self.add(field, f"{quoted(text or '')} is not a protocol (TCP, UDP, SCTP)")
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
    names = [("metadata.name", metadata.name)]
    if namespaced:
        names.append(("metadata.namespace", metadata.namespace or "default"))
    usable = [faults.name(check_name, name, field) for field, name in names]  # each of them is told
    return all(usable)


def check_service_address(text: str, field: str) -> str:
    """`parse_address`, refusing what no service may claim: loopback, link-local (cloud metadata servers live
    there), multicast, unspecified. Raises `InvalidObjectError`."""
    canonical = parse_address(text, field)
    address = ipaddress.ip_address(canonical)
    special = address.is_unspecified or address.is_loopback or address.is_link_local or address.is_multicast
    if special or canonical == "255.255.255.255":
        raise InvalidObjectError(field, f"{text} is a special address, which a service may not have")
    return canonical
