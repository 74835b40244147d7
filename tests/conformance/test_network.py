"""The node's network in commands."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

from kpng.conformance.flows import load_scenarios
from kpng.conformance.network import EGRESS, address_commands

Make = Callable[..., Any]


def test_addresses_and_routes(make_scenario: Make) -> None:
    node = make_scenario(node={"local_ips": ["192.0.2.10", "2001:db8::a"]}).node
    assert list(address_commands(node)) == [
        "addr flush dev eth0 scope global",
        "addr add 100.64.255.1/32 dev eth0",
        "addr add fdff:6b70:6e67::1/128 dev eth0 nodad",
        "addr add 192.0.2.10/32 dev eth0",
        "addr add 2001:db8::a/128 dev eth0 nodad preferred_lft 0",
        "route replace 0.0.0.0/0 dev eth0",
        "route replace ::/0 dev eth0",
    ]


def test_the_address_of_masquerading_is_no_scenarios() -> None:
    for scenario in load_scenarios():
        texts = {flow.src_ip for flow in scenario.flows} | {flow.dst_ip for flow in scenario.flows}
        assert not texts & set(EGRESS)
        assert not set(scenario.node.local_ips) & set(EGRESS)
        networks = [ip_network(cidr) for cidr in scenario.node.service_cidrs]
        assert not [each for each in networks for address in EGRESS if ip_address(address) in each]
