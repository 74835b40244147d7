"""IP addresses as canonical strings, kept apart by family."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from enum import IntEnum
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from msgspec import Struct

from .errors import InvalidObjectError
from .names import quoted

_LEADING_ZEROS = re.compile(r"\b0+(?=[0-9])")
_PREFIX_LENGTH = re.compile(r"[0-9]{1,3}")
_IPV4_MAPPED = bytes(10) + b"\xff\xff"
_SUSPECT_BYTES = frozenset((0, 127, 169, *range(224, 240), 0xFE, 0xFF))
"""What the first byte of a special address may be, of either family."""


class Family(IntEnum):
    """An IP family; the value is the IP version."""

    IPV4 = 4
    IPV6 = 6

    @property
    def bit(self) -> int:
        """The family's bit in a set of families (`PortMapping.available`): IPv4 is 1, IPv6 is 2."""
        return 1 if self is Family.IPV4 else 2


FAMILIES = (Family.IPV4, Family.IPV6)
_IPV4, _IPV6 = FAMILIES  # an attribute of an Enum costs as much as all else that family_of does


def parse_address(text: str, field: str = "") -> str:
    """Return the canonical form of an IP address.

    Leading zeros in IPv4 octets are accepted and read as decimal, as Kubernetes does
    (k8s.io/utils/net ParseIPSloppy); an IPv4-mapped IPv6 address becomes IPv4. Raises `InvalidObjectError`.
    """
    return _parse(text, field)[0]


def check_service_address(text: str, field: str = "") -> str:
    """`parse_address`, refusing what no service may claim: loopback, link-local (cloud metadata servers live
    there), multicast, unspecified. Raises `InvalidObjectError`."""
    canonical, packed = _parse(text, field)
    if _special(packed):
        raise InvalidObjectError(field, f"{text} is a special address, which a service may not have")
    return canonical


def _parse(text: str, field: str) -> tuple[str, bytes]:
    """The canonical form, and the 4 or 16 bytes. Of an IPv4 address, inet_pton(3) takes only its canonical form."""
    try:
        return text, inet_pton(AF_INET, text)
    except (OSError, ValueError):
        packed = _packed(text, field)
        return _text(packed), packed


def _packed(text: str, field: str) -> bytes:
    """An address's 4 or 16 bytes, in network order. By the C library: a tenth of the cost of `ipaddress`."""
    try:
        if ":" not in text:
            return inet_pton(AF_INET, _LEADING_ZEROS.sub("", text))
        packed = inet_pton(AF_INET6, text)
    except (OSError, ValueError):
        if ":" in text and "%" in text:
            raise InvalidObjectError(
                field, f"{quoted(text)} has a zone, which a service address cannot have"
            ) from None
        raise InvalidObjectError(field, f"{quoted(text)} is not an IP address") from None
    return packed.removeprefix(_IPV4_MAPPED)


def _text(packed: bytes) -> str:
    """The form of RFC 5952, without its dotted exception (section 5), which no family check expects."""
    if len(packed) == 4:
        return inet_ntop(AF_INET, packed)
    text = inet_ntop(AF_INET6, packed)
    return str(ipaddress.IPv6Address(packed)) if "." in text else text


def parse_cidr(text: str, field: str = "") -> str:
    """Return the canonical form of a CIDR: host bits cleared, surrounding blanks dropped.

    Raises `InvalidObjectError`.
    """
    host, _, length = text.strip().partition("/")
    if not _PREFIX_LENGTH.fullmatch(length) or "%" in host:  # ipaddress would take a netmask, and a zone
        raise InvalidObjectError(field, f"{quoted(text)} is not a CIDR")
    if ":" not in host:
        host = _LEADING_ZEROS.sub("", host)
    try:
        return str(ipaddress.ip_network(f"{host}/{length}", strict=False))
    except ValueError:
        raise InvalidObjectError(field, f"{quoted(text)} is not a CIDR") from None


def family_of(address_or_cidr: str) -> Family:
    """The family of a canonical address or CIDR."""
    return _IPV6 if ":" in address_or_cidr else _IPV4


def check_endpoint_address(text: str, field: str = "") -> str:
    """`parse_address`, refusing what an endpoint must never be (CVE-2021-25740 class; Kubernetes
    validation of EndpointSlice addresses): unspecified, loopback, link-local, multicast, broadcast.

    Raises `InvalidObjectError`.
    """
    canonical, packed = _parse(text, field)
    special = _special(packed)
    if special:
        raise InvalidObjectError(field, f"{text} is {special} address, which an endpoint may not have")
    return canonical


def _special(packed: bytes) -> str:
    """The class of an address that nothing in a cluster may have; "" if it is of none."""
    if packed[0] not in _SUSPECT_BYTES:
        return ""
    return _special_ipv4(packed) if len(packed) == 4 else _special_ipv6(packed)


def _special_ipv4(packed: bytes) -> str:
    """RFC 6890, RFC 5771."""
    if not any(packed):
        return "an unspecified"
    if packed[0] == 127:
        return "a loopback"
    if packed[:2] == b"\xa9\xfe":
        return "a link-local"
    if 224 <= packed[0] <= 239:
        return "a multicast"
    return "the broadcast" if packed == b"\xff\xff\xff\xff" else ""


def _special_ipv6(packed: bytes) -> str:
    """RFC 4291."""
    if not any(packed):
        return "an unspecified"
    if packed == bytes(15) + b"\1":
        return "a loopback"
    if packed[0] == 0xFE and packed[1] & 0xC0 == 0x80:
        return "a link-local"
    return "a multicast" if packed[0] == 0xFF else ""


class IPSet(Struct, frozen=True, gc=False, omit_defaults=True):
    """Canonical addresses (or CIDRs), sorted within each family and without duplicates."""

    v4: tuple[str, ...] = ()
    v6: tuple[str, ...] = ()

    @classmethod
    def of(cls, addresses: Iterable[str]) -> IPSet:
        """Build from canonical addresses of any family."""
        unique = sorted(set(addresses))
        return cls(tuple(a for a in unique if ":" not in a), tuple(a for a in unique if ":" in a))

    def family(self, family: Family) -> tuple[str, ...]:
        return self.v4 if family is Family.IPV4 else self.v6

    def all(self) -> tuple[str, ...]:
        return self.v4 + self.v6

    def __bool__(self) -> bool:
        return bool(self.v4 or self.v6)
