from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.model import (
    FAMILIES,
    Family,
    InvalidObjectError,
    IPSet,
    check_endpoint_address,
    family_of,
    parse_address,
    parse_cidr,
)

GOOD_ADDRESSES = [
    ("10.0.0.1", "10.0.0.1"),
    ("172.030.099.011", "172.30.99.11"),  # A11: sloppy zeros are decimal, never octal
    ("010.010.010.010", "10.10.10.10"),
    ("000.00.0.0", "0.0.0.0"),
    ("100.200.0.10", "100.200.0.10"),
    ("255.255.255.255", "255.255.255.255"),
    ("::", "::"),
    ("::1", "::1"),
    ("FD00::0001", "fd00::1"),
    ("fd00:0:0:0:0:0:0:1", "fd00::1"),
    ("fd00:0:0:1:0:0:0:1", "fd00:0:0:1::1"),
    ("fd00:1:2:3:4:5:0:7", "fd00:1:2:3:4:5:0:7"),  # RFC 5952: one group of zeros is not shortened
    ("::ffff:10.1.2.3", "10.1.2.3"),
    ("::ffff:a01:203", "10.1.2.3"),
    ("::1.2.3.4", "::102:304"),
    ("64:ff9b::10.0.0.1", "64:ff9b::a00:1"),
]

BAD_ADDRESSES = [
    "",
    " ",
    "10.0.0.1 ",
    "10.0.0",
    "10.0.0.0.1",
    "10.0.0.256",
    "10.0.0.-1",
    "0x0a.0.0.1",
    "167772161",
    "1.2.3.4/32",
    "1.2.3.4:80",
    "[fd00::1]",
    "fd00::1::2",
    "fd00::12345",
    "fe80::1%eth0",
    "10.0.0.1%eth0",
    "١٠.0.0.1",
    "10.0.0.1\0",
    "10.0.0.1\n",
    "None",
    "; rm -rf /",
]


@pytest.mark.parametrize(("text", "canonical"), GOOD_ADDRESSES)
def test_addresses_have_one_canonical_form(text: str, canonical: str) -> None:
    assert parse_address(text) == canonical
    assert parse_address(canonical) == canonical


@pytest.mark.parametrize("text", BAD_ADDRESSES)
def test_what_is_no_address_is_refused_and_named(text: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        parse_address(text, "spec.clusterIP")
    assert caught.value.field == "spec.clusterIP"
    assert repr(text) in caught.value.message
    with pytest.raises(InvalidObjectError):
        check_endpoint_address(text)


def test_a_zone_is_named_as_the_fault() -> None:
    with pytest.raises(InvalidObjectError, match="has a zone"):
        parse_address("fe80::1%eth0")


@given(st.ip_addresses())
def test_every_address_is_read_as_the_standard_library_reads_it(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    expected = getattr(address, "ipv4_mapped", None) or address
    assert parse_address(str(address)) == str(expected)
    assert parse_address(address.exploded) == str(expected)


@given(st.text(alphabet="0123456789abcdef:.%/ \n\0x", max_size=24))
def test_whatever_is_accepted_is_an_address(text: str) -> None:
    try:
        canonical = parse_address(text)
    except InvalidObjectError:
        return
    assert str(ipaddress.ip_address(canonical)) == canonical


CIDRS = [
    ("10.0.0.0/8", "10.0.0.0/8"),
    (" 10.0.0.0/8\t", "10.0.0.0/8"),
    ("10.1.2.3/8", "10.0.0.0/8"),
    ("010.001.0.0/016", "10.1.0.0/16"),
    ("0.0.0.0/0", "0.0.0.0/0"),
    ("10.0.0.1/32", "10.0.0.1/32"),
    ("fd00::1/64", "fd00::/64"),
    ("::/0", "::/0"),
    ("FD00::/8", "fd00::/8"),
]


@pytest.mark.parametrize(("text", "canonical"), CIDRS)
def test_cidrs_have_one_canonical_form(text: str, canonical: str) -> None:
    assert parse_cidr(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "10.0.0.0",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/255.0.0.0",  # a netmask; and as a host mask it would silently mean something else
        "10.0.0.0/0.0.0.255",
        "10.0.0.0/8/8",
        "10.0.0/8",
        "fd00::/129",
        "fe80::%eth0/64",
        "10.0.0.0/٨",
        "everybody",
    ],
)
def test_what_is_no_cidr_is_refused_and_named(text: str) -> None:
    with pytest.raises(InvalidObjectError, match="is not a CIDR") as caught:
        parse_cidr(text, "spec.loadBalancerSourceRanges[0]")
    assert caught.value.field == "spec.loadBalancerSourceRanges[0]"


REFUSED_ENDPOINTS = [
    ("0.0.0.0", "unspecified"),
    ("::", "unspecified"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("127.000.000.001", "loopback"),
    ("::1", "loopback"),
    ("::ffff:127.0.0.1", "loopback"),
    ("169.254.169.254", "link-local"),
    ("169.254.0.0", "link-local"),
    ("fe80::1", "link-local"),
    ("febf::1", "link-local"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("ff02::1", "multicast"),
    ("255.255.255.255", "broadcast"),
]


@pytest.mark.parametrize(("text", "kind"), REFUSED_ENDPOINTS)
def test_an_endpoint_cannot_be_what_would_reach_the_node_itself_or_many(text: str, kind: str) -> None:
    with pytest.raises(InvalidObjectError, match=kind) as caught:
        check_endpoint_address(text, "endpoints[0].addresses[0]")
    assert caught.value.field == "endpoints[0].addresses[0]"
    assert text in caught.value.message
    parse_address(text)  # refused for what it is, not for how it is written


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1",
        "0.0.0.1",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.0.1",
        "169.255.0.1",
        "223.255.255.255",
        "240.0.0.1",
        "255.255.255.254",
        "fd00::1",
        "fe7f::1",
        "fec0::1",
        "::2",
        "feff::1",
    ],
)
def test_neighbours_of_refused_ranges_are_accepted(text: str) -> None:
    assert check_endpoint_address(text) == text


@given(st.ip_addresses())
def test_refusals_agree_with_the_standard_library(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    plain = getattr(address, "ipv4_mapped", None) or address
    refused = plain.is_unspecified or plain.is_loopback or plain.is_link_local or plain.is_multicast
    try:
        check_endpoint_address(str(address))
    except InvalidObjectError:
        assert refused or str(plain) == "255.255.255.255"
    else:
        assert not refused


def test_families() -> None:
    assert [family.bit for family in FAMILIES] == [1, 2]
    assert family_of("10.0.0.0/8") is Family.IPV4
    assert family_of("fd00::1") is Family.IPV6


def test_an_ip_set_keeps_families_apart_sorted_and_without_duplicates() -> None:
    addresses = IPSet.of(["fd00::2", "10.0.0.2", "fd00::1", "10.0.0.1", "10.0.0.2"])
    assert addresses == IPSet(v4=("10.0.0.1", "10.0.0.2"), v6=("fd00::1", "fd00::2"))
    assert addresses.all() == ("10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2")
    assert [addresses.family(family) for family in FAMILIES] == [addresses.v4, addresses.v6]
    assert addresses
    assert not IPSet()
    assert hash(addresses) == hash(IPSet.of(reversed(addresses.all())))
