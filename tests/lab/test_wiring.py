"""From the plan to commands: no namespace is made here."""

from __future__ import annotations

import ipaddress

import pytest

from kpng.lab.topology import CLIENT, CONTROL, FABRIC, plan
from kpng.lab.wiring import UPLINK, cables, commands, sysctls

TOPOLOGY = plan()


def test_every_machine_but_the_fabric_has_one_uplink() -> None:
    far_ends = [cable.far for cable in cables(TOPOLOGY)]
    assert sorted(far_ends) == sorted(machine for machine in TOPOLOGY.machines if machine != FABRIC)


def test_pods_hang_on_their_node_and_nodes_on_the_fabric() -> None:
    plugged = {cable.far: cable.machine for cable in cables(TOPOLOGY)}
    assert all(plugged[pod.name] == pod.node for pod in TOPOLOGY.pods)
    assert all(plugged[node.name] == FABRIC for node in TOPOLOGY.nodes)
    assert plugged[CONTROL] == plugged[CLIENT] == FABRIC


@pytest.mark.parametrize("machine", TOPOLOGY.machines)
def test_only_fabric_and_nodes_forward(machine: str) -> None:
    forwards = machine == FABRIC or machine.startswith("node")
    settings = sysctls(TOPOLOGY, machine)
    assert (settings.get("net/ipv4/ip_forward") == "1") is forwards
    assert (settings.get("net/ipv6/conf/all/forwarding") == "1") is forwards
    assert settings["net/ipv6/conf/default/accept_dad"] == "0"


@pytest.mark.parametrize("machine", TOPOLOGY.machines)
def test_every_ipv6_address_is_usable_at_once(machine: str) -> None:
    added = [line for line in commands(TOPOLOGY, machine) if line.startswith("address add") and ":" in line]
    assert added
    assert all(line.endswith("nodad") for line in added)


@pytest.mark.parametrize("machine", [machine for machine in TOPOLOGY.machines if machine != FABRIC])
def test_every_machine_but_the_fabric_has_a_way_out_in_both_families(machine: str) -> None:
    ways = [line.split()[4] for line in commands(TOPOLOGY, machine) if line.startswith("route add default via")]
    assert sorted(ipaddress.ip_address(way).version for way in ways) == [4, 6]


def test_the_fabric_knows_no_way_to_pods_and_cluster_ips() -> None:
    destinations = [line.split()[2] for line in commands(TOPOLOGY, FABRIC) if line.startswith("route add")]
    assert destinations == [
        "203.0.113.80",
        "2001:db8:113::80",
        "203.0.113.180",
        "2001:db8:113::180",
        "203.0.113.81",
        "2001:db8:113::81",
    ]


def test_a_node_reaches_the_other_nodes_pods_by_those_nodes() -> None:
    lines = commands(TOPOLOGY, "node2")
    assert "route add 10.244.1.0/24 via 192.0.2.11" in lines
    assert "route add fd00:10:244:3::/64 via 2001:db8:2::13" in lines
    assert not [line for line in lines if line.startswith("route add 10.244.2.0/24")]


def test_a_pods_whole_configuration() -> None:
    assert commands(TOPOLOGY, "web-2") == [
        f"link set {UPLINK} up",
        "address add 10.244.2.12/32 dev eth0",
        "address add fd00:10:244:2::12/128 dev eth0 nodad",
        "route add 10.244.2.1 dev eth0",
        "route add fd00:10:244:2::1 dev eth0",
        "route add default via 10.244.2.1 dev eth0",
        "route add default via fd00:10:244:2::1 dev eth0",
    ]


def test_the_client_has_all_its_addresses() -> None:
    added = [line.split()[2] for line in commands(TOPOLOGY, CLIENT) if line.startswith("address add")]
    assert len(added) == 2 * len(TOPOLOGY.clients)
    assert {ipaddress.ip_interface(address).network for address in added} == {
        ipaddress.ip_network("198.51.100.0/24"),
        ipaddress.ip_network("2001:db8:51::/64"),
    }
