"""H1 to H3, L2, X12: where health checks of Services listen."""

from __future__ import annotations

import pytest

from kpng.health import listen_addresses
from kpng.model import FAMILIES, IPSet

V4, V6 = FAMILIES
INTERFACES = [
    "127.0.0.1",
    "192.0.2.1",
    "192.0.2.9",
    "198.51.100.1",
    "::1",
    "2001:db8::1",
    "2001:db8:1::1",
    "fe80::1",
]
NODE = IPSet.of(["192.0.2.1", "2001:db8::1"])
ALL4, ALL6 = ("0.0.0.0",), ("::",)

CASES: dict[str, tuple[list[str], IPSet, tuple[str, ...], tuple[str, ...]]] = {
    "H1 nothing is all": ([], NODE, ALL4, ALL6),
    "H1 nothing is all, node unknown": ([], IPSet(), ALL4, ALL6),
    "H2 primary": (["primary"], NODE, ("192.0.2.1",), ("2001:db8::1",)),
    "X12 primary, node unknown": (["primary"], IPSet(), (), ()),
    "X12 primary, one family": (["primary"], IPSet.of(["192.0.2.1"]), ("192.0.2.1",), ()),
    "primary, not on this machine": (["primary"], IPSet.of(["203.0.113.1", "2001:db8::1"]), (), ("2001:db8::1",)),
    "H3 a CIDR": (["192.0.2.0/24", "2001:db8::/48"], NODE, ("192.0.2.1", "192.0.2.9"), ("2001:db8::1",)),
    "H3 several": (["192.0.2.9/32", "198.51.100.0/24", "::1/128"], NODE, ("192.0.2.9", "198.51.100.1"), ("::1",)),
    "H3 a family without CIDR is all": (["192.0.2.0/24"], NODE, ("192.0.2.1", "192.0.2.9"), ALL6),
    "H3 /0 is all": (["0.0.0.0/0", "192.0.2.0/24", "2001:db8::/32"], NODE, ALL4, ("2001:db8:1::1", "2001:db8::1")),
    "H3 /0 of the other": (["::/0", "192.0.2.0/24"], NODE, ("192.0.2.1", "192.0.2.9"), ALL6),
    "nothing inside": (["203.0.113.0/24", "2001:db8:9::/48"], NODE, (), ()),
    "link-local ones need a zone": (["fe80::/10"], NODE, ALL4, ()),
}


@pytest.mark.parametrize("name", CASES)
def test_addresses(name: str) -> None:
    wanted, node, v4, v6 = CASES[name]
    assert listen_addresses(wanted, node, INTERFACES) == {V4: v4, V6: v6}


def test_x6_an_address_that_comes_is_used() -> None:
    before = listen_addresses(["192.0.2.0/24"], NODE, ["192.0.2.1"])
    after = listen_addresses(["192.0.2.0/24"], NODE, ["192.0.2.1", "192.0.2.7"])
    assert (before[V4], after[V4]) == (("192.0.2.1",), ("192.0.2.1", "192.0.2.7"))
