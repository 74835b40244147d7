"""IP addresses as canonical strings, kept apart by family."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache

from msgspec import Struct

from .errors import InvalidObjectError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_LEADING_ZEROS = re.compile(r"\b0+(?=\d)")


class Family(IntEnum):
    """An IP family; the value is the IP version."""

    IPV4 = 4
    IPV6 = 6

    @property
    def bit(self) -> int:
        """The family's bit in a set of families (`PortMapping.available`): IPv4 is 1, IPv6 is 2."""
        return 1 if self is Family.IPV4 else 2


FAMILIES = (Family.IPV4, Family.IPV6)


@lru_cache(maxsize=65536)
def parse_address(text: str, field: str = "") -> str:
    """Return the canonical form of an IP address.

    Leading zeros in IPv4 octets are accepted and read as decimal, as Kubernetes does
    (k8s.io/utils/net ParseIPSloppy); an IPv4-mapped IPv6 address becomes IPv4. Raises `InvalidObjectError`.
    """
    try:
        address: IPAddress = ipaddress.ip_address(text if ":" in text else _LEADING_ZEROS.sub("", text))
    except ValueError:
        raise InvalidObjectError(field, f"{text!r} is not an IP address") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise InvalidObjectError(field, f"{text!r} has a zone, which a service address cannot have")
        address = address.ipv4_mapped or address
    return str(address)


def parse_cidr(text: str, field: str = "") -> str:
    """Return the canonical form of a CIDR: host bits cleared, surrounding blanks dropped.

    Raises `InvalidObjectError`.
    """
    stripped = text.strip()
    try:
        if "/" not in stripped:
            raise ValueError
        if ":" not in stripped:
            host, _, length = stripped.partition("/")
            stripped = f"{_LEADING_ZEROS.sub('', host)}/{length}"
        return str(ipaddress.ip_network(stripped, strict=False))
    except ValueError:
        raise InvalidObjectError(field, f"{text!r} is not a CIDR") from None


def family_of(address_or_cidr: str) -> Family:
    """The family of a canonical address or CIDR."""
    return Family.IPV6 if ":" in address_or_cidr else Family.IPV4


@lru_cache(maxsize=65536)
def check_endpoint_address(text: str, field: str = "") -> str:
    """`parse_address`, refusing what an endpoint must never be (CVE-2021-25740 class; Kubernetes
    validation of EndpointSlice addresses): unspecified, loopback, link-local, multicast.

    Raises `InvalidObjectError`.
    """
    canonical = parse_address(text, field)
    address = ipaddress.ip_address(canonical)
    kinds = (
        ("unspecified", address.is_unspecified),
        ("loopback", address.is_loopback),
        ("link-local", address.is_link_local),
        ("multicast", address.is_multicast),
    )
    for kind, matches in kinds:
        if matches:
            raise InvalidObjectError(field, f"{text} is a {kind} address, which an endpoint may not have")
    if canonical == "255.255.255.255":
        raise InvalidObjectError(field, f"{text} is the broadcast address, which an endpoint may not have")
    return canonical


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
