"""Intervals: CIDRs merged, complemented, written, and kept by the kernel through many changes."""

from __future__ import annotations

import ipaddress
import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.backends.nft.fields import DPORT, destination, source
from kpng.backends.nft.intervals import contains, halves, interval_keys, intervals, outside, show_interval
from kpng.backends.nft.verify import differences
from kpng.model import FAMILIES, Family, IPSet, LocalNode

V4, V6 = FAMILIES
MERGED = [
    ((), []),
    (("10.0.0.0/8",), ["10.0.0.0/8"]),
    (("10.0.0.7",), ["10.0.0.7"]),
    (("10.0.0.0/9", "10.128.0.0/9"), ["10.0.0.0/8"]),
    (("10.0.0.0/8", "10.3.0.0/16"), ["10.0.0.0/8"]),
    (("10.2.0.0/16", "10.1.0.0/16"), ["10.1.0.0-10.2.255.255"]),
    (("10.1.0.0/16", "10.3.0.0/16", "fd00::/8"), ["10.1.0.0/16", "10.3.0.0/16"]),
    (("0.0.0.0/0", "10.0.0.0/8"), ["0.0.0.0/0"]),
    (("255.255.255.255",), ["255.255.255.255"]),
]


def shown(found: Any, family: Family = V4) -> list[str]:
    return [show_interval((destination(family),), key) for key in interval_keys(found)]


@pytest.mark.parametrize(("cidrs", "expected"), MERGED)
def test_merged(cidrs: tuple[str, ...], expected: list[str]) -> None:
    assert shown(intervals(cidrs, V4)) == expected


def test_ipv6() -> None:
    found = intervals(("10.0.0.0/8", "fd00:1::/64", "fd00::1", "::/3"), V6)
    assert shown(found, V6) == ["::/3", "fd00::1", "fd00:1::/64"]


def test_the_other_fields_of_a_concatenation_are_single_values() -> None:
    key = (destination(V4), DPORT, source(V4))
    prefix = b"\xcb\x00\x71\x07\x00\x50\x00\x00"
    [element] = interval_keys(intervals(("192.0.2.0/24",), V4), prefix)
    assert show_interval(key, element) == "203.0.113.7 . 80 . 192.0.2.0/24"
    assert halves(element) == (prefix + b"\xc0\x00\x02\x00", prefix + b"\xc0\x00\x02\xff")


_cidrs = st.lists(
    st.builds(
        lambda address, length: str(ipaddress.ip_network((address, length), strict=False)),
        st.integers(0, 2**32 - 1) | st.sampled_from([0, 2**32 - 1]),
        st.integers(0, 32),
    ),
    max_size=6,
).map(tuple)


@given(_cidrs, st.integers(0, 2**32 - 1))
def test_intervals_and_what_is_outside_them(cidrs: tuple[str, ...], number: int) -> None:
    inside = intervals(cidrs, V4)
    around = outside(inside, V4)
    everything = sorted([*inside, *around])
    assert everything[0][0] == bytes(4)
    assert everything[-1][1] == b"\xff" * 4
    for (_, last), (first, _) in itertools.pairwise(everything):
        assert int.from_bytes(first, "big") == int.from_bytes(last, "big") + 1
    address = str(ipaddress.ip_address(number))
    expected = any(ipaddress.ip_address(number) in ipaddress.ip_network(cidr) for cidr in cidrs)
    assert contains(inside, address) is expected
    assert contains(around, address) is not expected


def _random_cidrs(dice: random.Random, network: str, shortest: int) -> tuple[str, ...]:
    base = ipaddress.ip_network(network)
    found = []
    for _ in range(dice.randrange(6)):
        length = dice.randint(shortest, base.max_prefixlen)
        address = base[dice.randrange(min(base.num_addresses, 1 << 12))]
        found.append(str(ipaddress.ip_network((address, length), strict=False)))
    return tuple(sorted(set(found)))


@pytest.mark.netns
def test_the_kernel_keeps_up(rig: Any, make: Any) -> None:
    """Intervals that grow, shrink, touch and overlap those before, in one transaction each; with both kinds of set
    (ranges of one field, and of a concatenation)."""
    dice = random.Random(7)
    backend = rig.start(detect_local_mode="NodeCIDR", nodeport_addresses=("primary",))
    for _ in range(80):
        node = LocalNode(
            name="n",
            addresses=IPSet((f"192.0.2.{dice.randrange(4)}",), (f"fd00::{dice.randrange(1, 4)}",)),
            pod_cidrs=_random_cidrs(dice, "10.0.0.0/8", 12)[:1],
            service_cidrs=_random_cidrs(dice, "10.96.0.0/12", 14) + _random_cidrs(dice, "fd00::/108", 112),
        )
        ranges = _random_cidrs(dice, "192.0.2.0/24", 20) + _random_cidrs(dice, "fd00::/108", 112)
        outside_ips = IPSet(("203.0.113.7",), ("2001:db8:99::7",))
        backend.set(make(load_balancer_ips=outside_ips, source_ranges=ranges), node=node)
        found = backend.runner.call(lambda: differences(backend.backend._connection, backend.backend._kernel.books))
        assert found == []
    assert "service_cidrs" in rig.nft("list", "ruleset")


@pytest.mark.netns
@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "255.255.255.255/32", "0.0.0.0/32"])
def test_the_ends_of_the_address_space(rig: Any, make: Any, cidr: str) -> None:
    backend = rig.start()
    backend.set(make(), node=LocalNode(name="n", service_cidrs=(cidr,)))
    kernel = backend.backend._kernel
    assert backend.runner.call(lambda: differences(backend.backend._connection, kernel.books)) == []
    listed = rig.nft("list", "set", "ip", "kpng", "service_cidrs")
    assert cidr.removesuffix("/32") in listed
    backend.set(make(), node=LocalNode(name="n"))
    assert "elements" not in rig.nft("list", "set", "ip", "kpng", "service_cidrs")
