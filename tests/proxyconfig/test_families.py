"""J5: settings of one family only."""

from __future__ import annotations

from typing import Any

import pytest

from kpng.model import IPSet
from kpng.proxyconfig import KubeProxyConfiguration, apply_defaults, family_warnings

V4, V6 = "192.0.2.1", "2001:db8::1"
NO_PODS_V4 = "clusterCIDR has no CIDR of IPv4: in that family nothing counts as a pod"
NO_PODS_V6 = NO_PODS_V4.replace("IPv4", "IPv6")
ALL_V6 = "nodePortAddresses has no CIDR of IPv6: node ports are offered at all its addresses"

CASES: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({}, [V4, V6], []),
    ({"cluster_cidr": "10.244.0.0/16"}, [V4], []),
    ({"cluster_cidr": "10.244.0.0/16"}, [V4, V6], [NO_PODS_V6]),
    ({"cluster_cidr": "10.244.0.0/16"}, [V6], [NO_PODS_V6]),
    ({"cluster_cidr": "fd00::/48"}, [V4, V6], [NO_PODS_V4]),
    ({"cluster_cidr": "10.244.0.0/16,fd00::/48"}, [V4, V6], []),
    ({"cluster_cidr": "10.244.0.0/16", "detect_local_mode": "NodeCIDR"}, [V4, V6], []),
    ({"node_port_addresses": ["primary"]}, [V4, V6], []),
    ({"node_port_addresses": ["192.0.2.0/24"]}, [V4], []),
    ({"node_port_addresses": ["192.0.2.0/24"]}, [V4, V6], [ALL_V6]),
    ({"node_port_addresses": ["192.0.2.0/24", "::/0"]}, [V4, V6], []),
    ({"cluster_cidr": "10.244.0.0/16", "node_port_addresses": ["0.0.0.0/0"]}, [], []),
]


@pytest.mark.parametrize(("settings", "addresses", "wanted"), CASES)
def test_j5_what_a_family_lacks_is_told(settings: dict[str, Any], addresses: list[str], wanted: list[str]) -> None:
    config = KubeProxyConfiguration(**settings)
    apply_defaults(config)
    assert list(family_warnings(config, IPSet.of(addresses))) == wanted
