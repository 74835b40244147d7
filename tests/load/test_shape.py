"""The numbers of a cluster: distinct names and addresses, in the networks that are said."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.load import POD_CIDRS, Shape, Site, parse_shape
from kpng.model import UserError

shapes = st.builds(
    Shape,
    services=st.integers(1, 60),
    endpoints=st.integers(0, 250),
    zones=st.integers(1, 5),
    nodes=st.integers(1, 40),
    seed=st.integers(0, 1000),
    dual_stack=st.booleans(),
)


@pytest.mark.parametrize(
    ("numbers", "complaint"),
    [
        ({"services": 0}, "services: 0 is not at least 1"),
        ({"zones": 0}, "zones: 0"),
        ({"nodes": -1}, "nodes: -1"),
        ({"ports": 0}, "ports: 0"),
        ({"namespaces": 0}, "namespaces: 0"),
        ({"slice_size": 0}, "slice_size: 0"),
        ({"slice_size": 1001}, "1000 endpoints a slice"),
        ({"endpoints": -1}, "endpoints: -1 is negative"),
        ({"services": 2_000_000}, "10.96.0.0/12"),
        ({"nodes": 40_000}, "do not fit into 10.128.0.0/9"),
        ({"services": 100_000, "endpoints": 50}, "do not fit into 10.128.0.0/9"),
    ],
)
def test_refuses_numbers_that_do_not_go_together(numbers: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        Shape(**numbers)


@pytest.mark.parametrize(
    "numbers",
    [
        {"services": 10_000, "endpoints": 10, "nodes": 5000},
        {"services": 44_000, "endpoints": 1, "nodes": 5000},
        {"services": 50_000, "endpoints": 1, "nodes": 1},
        {"services": 1, "endpoints": 5000, "nodes": 15_000},
    ],
)
def test_takes_the_sizes_that_are_measured(numbers: dict[str, int]) -> None:
    assert Shape(**numbers).places > Shape(**numbers).total


@given(shapes)
def test_no_two_pods_are_the_same(shape: Shape) -> None:
    serials = range(min(shape.total, 300))
    for family, cidr in zip(("IPv4", "IPv6"), POD_CIDRS, strict=True):
        addresses = {shape.pod_address(serial, family) for serial in serials}
        assert len(addresses) == len(serials)
        assert all(ip_address(address) in ip_network(cidr) for address in addresses)
    assert len({shape.pod_name(0, serial) for serial in serials}) == len(serials)


@given(shapes, st.integers(0, 10_000))
def test_a_pods_address_is_of_its_nodes_network(shape: Shape, serial: int) -> None:
    node = shape.node_of(serial)
    for family in ("IPv4", "IPv6"):
        network = ip_network(shape.pod_cidr(node, family))
        address = ip_address(shape.pod_address(serial, family))
        assert address in network
        assert address not in (network[0], network[-1])


@given(shapes)
def test_as_many_pods_as_there_are_places_have_addresses_of_their_own(shape: Shape) -> None:
    last, over = shape.places - 1, shape.places
    assert shape.pod_address(last, "IPv4") != shape.pod_address(0, "IPv4")
    assert shape.pod_address(over, "IPv4") == shape.pod_address(0, "IPv4")


@given(st.integers(0, 1000), st.lists(st.integers(0, 20), unique=True, min_size=2, max_size=20))
def test_slices_of_a_service_have_names_of_their_own(service: int, numbers: list[int]) -> None:
    shape = Shape()
    names = {shape.slice_name(service, number, family) for number in numbers for family in ("IPv4", "IPv6")}
    assert len(names) == 2 * len(numbers)
    assert all(name.startswith(f"{shape.service_name(service)}-") for name in names)


def test_cluster_addresses_are_the_usual_ones() -> None:
    shape = Shape(services=70_000, endpoints=1)
    assert shape.cluster_ip(0, "IPv4") == "10.96.1.0"
    assert shape.cluster_ip(0, "IPv6") == "fd00:10:96::100"
    assert ip_address(shape.cluster_ip(69_999, "IPv4")) in ip_network("10.96.0.0/12")


def test_the_networks_do_not_overlap() -> None:
    shape = Shape(services=1_000_000, endpoints=0, nodes=20_000)
    cluster = shape.cluster_ip(shape.services - 1, "IPv4")
    node = shape.node_address(shape.nodes - 1, "IPv4")
    assert ip_address(cluster) in ip_network("10.96.0.0/12")
    assert ip_address(node) in ip_network("172.16.0.0/12")


def test_zones_and_nodes_go_round() -> None:
    shape = Shape(zones=2, nodes=3)
    assert [shape.site(node).zone for node in range(3)] == ["zone-0", "zone-1", "zone-0"]
    assert [shape.node_of(serial) for serial in range(4)] == [0, 1, 2, 0]


def test_sites_that_exist_are_used() -> None:
    shape = Shape(sites=(Site("a", "east"), Site("b", "")))
    assert shape.node_count == 2
    assert shape.site(shape.node_of(3)) == Site("b", "")


def test_the_seed_changes_names_only() -> None:
    one, other = Shape(seed=1), Shape(seed=2)
    assert one.pod_name(0, 1) != other.pod_name(0, 1)
    assert one.pod_address(1, "IPv4") == other.pod_address(1, "IPv4")


@pytest.mark.parametrize(("namespaces", "expected"), [(1, ["p", "p", "p"]), (2, ["p-0", "p-1", "p-0"])])
def test_services_are_spread_over_namespaces(namespaces: int, expected: list[str]) -> None:
    shape = Shape(prefix="p", namespaces=namespaces)
    assert [shape.namespace(service) for service in range(3)] == expected


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("services=5", Shape(services=5)),
        ("services=5,endpoints=0,dual_stack", Shape(services=5, endpoints=0, dual_stack=True)),
        ("prefix=mine,hints=true,cluster_ips=false", Shape(prefix="mine", hints=True, cluster_ips=False)),
    ],
)
def test_is_read_from_a_command_line(text: str, shape: Shape) -> None:
    assert parse_shape(text) == shape


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "unknown"),
        ("color=red", "unknown color"),
        ("sites=x", "unknown sites"),
        ("services=many", "Expected `int`"),
        ("services=0", "services: 0 is not at least 1"),
    ],
)
def test_says_what_it_cannot_read(text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        parse_shape(text)
