"""The plan: pure data, checked as such."""

from __future__ import annotations

import ipaddress

import pytest

from kpng.lab.services import EMPTY, OUTSIDE_CIDRS, SERVICES, STICKY, WEB, WEB_LOCAL, announcements
from kpng.lab.topology import CLUSTER_CIDRS, Topology, plan, prefix
from kpng.model import FAMILIES, Family, UserError, check_endpoint_address

BOTH_SIZES = pytest.mark.parametrize("node_count", [2, 3])


def every_address(topology: Topology) -> list[str]:
    owners = [node.addresses for node in topology.nodes] + [pod.addresses for pod in topology.pods]
    owners += [topology.control, *topology.clients]
    return [address for addresses in owners for address in addresses.both]


@BOTH_SIZES
def test_addresses_are_unique_and_canonical(node_count: int) -> None:
    addresses = every_address(plan("lab", node_count))
    assert len(addresses) == len(set(addresses))
    assert addresses == [str(ipaddress.ip_address(address)) for address in addresses]


@BOTH_SIZES
def test_pods_are_inside_their_nodes_ranges(node_count: int) -> None:
    topology = plan("lab", node_count)
    for pod in topology.pods:
        cidrs = topology.node(pod.node).pod_cidrs
        for family in FAMILIES:
            address = ipaddress.ip_address(pod.addresses.of(family))
            assert address in ipaddress.ip_network(cidrs.of(family))
            assert any(address in ipaddress.ip_network(cidr) for cidr in CLUSTER_CIDRS)


@BOTH_SIZES
def test_pods_may_be_endpoints(node_count: int) -> None:
    for pod in plan("lab", node_count).pods:
        for address in pod.addresses.both:
            assert check_endpoint_address(address) == address


@BOTH_SIZES
def test_the_idle_node_has_no_web_endpoint_and_the_busy_one_has(node_count: int) -> None:
    topology = plan("lab", node_count)
    web_nodes = {pod.node for pod in topology.pods_of("web")}
    assert len(topology.pods_of("web")) == 3
    assert topology.idle_node.name not in web_nodes
    assert topology.busy_node.name in web_nodes


def test_three_nodes_spread_web_over_two_of_them_in_two_zones() -> None:
    topology = plan()
    nodes = {pod.node for pod in topology.pods_of("web")}
    assert nodes == {"node1", "node2"}
    assert {topology.node(name).zone for name in nodes} == {"zone-a", "zone-b"}


def test_every_machine_has_a_name_of_its_own() -> None:
    topology = plan()
    assert len(topology.machines) == len(set(topology.machines)) == 3 + 3 + 6
    assert topology.namespace("node1") == "kpng-lab-node1"
    assert plan("other").namespace("node1") == "kpng-other-node1"


def test_interface_names_fit_the_kernel() -> None:
    assert all(len(machine) < 16 for machine in plan().machines)


@pytest.mark.parametrize("name", ["", "Lab", "a-b", "a b", "../x", "a" * 17, "ä", "a\n"])
def test_names_that_could_be_taken_for_others_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="lab name"):
        plan(name)


def test_no_labs_prefix_begins_with_anothers() -> None:
    names = ["lab", "lab2", "l", "2"]
    prefixes = [prefix(name) for name in names]
    assert not [(a, b) for a in prefixes for b in prefixes if a is not b and a.startswith(b)]


@pytest.mark.parametrize("node_count", [0, 1, 4, -1])
def test_other_numbers_of_nodes_are_refused(node_count: int) -> None:
    with pytest.raises(UserError, match="2 to 3 nodes"):
        plan("lab", node_count)


def test_services_do_not_share_addresses_or_node_ports() -> None:
    addresses = [address for service in SERVICES for address in service.cluster_ips.both]
    addresses += [ip for service in SERVICES for ip in service.outside_ips]
    node_ports = [service.node_port + index for service in SERVICES if service.node_port for index in range(3)]
    assert len(addresses) == len(set(addresses))
    assert len(node_ports) == len(set(node_ports))
    assert all(30000 <= port <= 32767 for port in node_ports)


def test_service_types_follow_from_what_they_have() -> None:
    assert [service.type for service in (WEB, WEB_LOCAL, STICKY, EMPTY)] == [
        "LoadBalancer",
        "LoadBalancer",
        "NodePort",
        "NodePort",
    ]
    assert {service.type for service in SERVICES} == {"ClusterIP", "NodePort", "LoadBalancer"}


def test_a_service_with_policy_local_is_announced_by_a_node_with_an_endpoint() -> None:
    topology = plan()
    announced = announcements(topology)
    assert WEB.load_balancer is not None
    assert WEB_LOCAL.load_balancer is not None
    assert announced[WEB_LOCAL.load_balancer.ipv4] == announced[WEB_LOCAL.load_balancer.ipv6] == "node1"
    assert announced[WEB.load_balancer.ipv4] == "node3"
    networks = [ipaddress.ip_network(cidr) for cidr in OUTSIDE_CIDRS]
    assert all(any(ipaddress.ip_address(ip) in network for network in networks) for ip in announced)


def test_addresses_by_family() -> None:
    addresses = plan().control
    assert addresses.of(Family.IPV4) == addresses.ipv4 == addresses.both[0]
    assert addresses.of(Family.IPV6) == addresses.ipv6 == addresses.both[1]
