"""U5: every mistake is told, with its field."""

from __future__ import annotations

from typing import Any

import pytest

from kpng.model import UserError
from kpng.proxyconfig import Duration, KubeProxyConfiguration, apply_defaults, check, mistakes
from kpng.proxyconfig.fields import get_field, set_field

NEGATIVE = Duration(-1)
ZERO = Duration()

BAD: list[tuple[str, Any, str]] = [
    ("iptables.syncPeriod", NEGATIVE, "not greater than 0"),
    ("ipvs.syncPeriod", ZERO, "not greater than 0"),
    ("nftables.syncPeriod", ZERO, "not greater than 0"),
    ("iptables.minSyncPeriod", NEGATIVE, "less than 0"),
    ("nftables.minSyncPeriod", NEGATIVE, "less than 0"),
    ("nftables.minSyncPeriod", Duration.parse("31s"), "31s is more than nftables.syncPeriod, 30s"),
    ("ipvs.minSyncPeriod", Duration.parse("1h"), "1h0m0s is more than ipvs.syncPeriod"),
    ("configSyncPeriod", ZERO, "not greater than 0"),
    ("iptables.masqueradeBit", 32, "not between 0 and 31"),
    ("nftables.masqueradeBit", -1, "not between 0 and 31"),
    ("oomScoreAdj", 1001, "not between -1000 and 1000"),
    ("oomScoreAdj", -1001, "not between -1000 and 1000"),
    ("conntrack.maxPerCore", -1, "less than 0"),
    ("conntrack.min", -1, "less than 0"),
    ("conntrack.tcpEstablishedTimeout", NEGATIVE, "less than 0"),
    ("conntrack.tcpCloseWaitTimeout", NEGATIVE, "less than 0"),
    ("conntrack.udpTimeout", NEGATIVE, "less than 0"),
    ("conntrack.udpStreamTimeout", NEGATIVE, "less than 0"),
    ("mode", "userspace", "none of iptables, ipvs, nftables"),
    ("ipvs.tcpTimeout", NEGATIVE, "less than 0"),
    ("ipvs.tcpFinTimeout", NEGATIVE, "less than 0"),
    ("ipvs.udpTimeout", NEGATIVE, "less than 0"),
    ("ipvs.excludeCIDRs", ["10.0.0.0/8", "x"], "'x' is not a CIDR"),
    ("clusterCIDR", "10.0.0.0", "not a CIDR"),
    ("clusterCIDR", "10.0.0.0/8,10.1.0.0/16", "two CIDRs of one family"),
    ("clusterCIDR", "10.0.0.0/8,fd00::/8,fd01::/16", "more than two"),
    ("clusterCIDR", "10.0.0.0/8,", "not a CIDR"),
    ("nodePortAddresses", ["primary", "10.0.0.0/8"], "primary must stand alone"),
    ("nodePortAddresses", ["primary", "primary"], "primary must stand alone"),
    ("nodePortAddresses", ["10.0.0.1"], "'10.0.0.1' is not a CIDR"),
    ("nodePortAddresses", [""], "'' is not a CIDR"),
    ("bindAddress", "localhost", "not an IP address"),
    ("bindAddress", "fe80::1%eth0", "not an IP address"),
    ("healthzBindAddress", "10256", "not of the form IP:port"),
    ("healthzBindAddress", "localhost:10256", "not of the form IP:port"),
    ("healthzBindAddress", "0.0.0.0:http", "'http' is not a port number"),
    ("metricsBindAddress", "0.0.0.0:65536", "not a port number"),
    ("metricsBindAddress", "[::1]:-1", "not a port number"),
    ("detectLocalMode", "Magic", "none of ClusterCIDR"),
    ("clientConnection.burst", -1, "less than 0"),
    ("logging.format", "xml", "none of text, json"),
    ("logging.verbosity", -1, "less than 0"),
    ("featureGates", {"WinDSR": True}, "for Windows only"),
]


@pytest.mark.parametrize(("path", "value", "fault"), BAD)
def test_a_mistake_is_named(path: str, value: Any, fault: str) -> None:
    config = apply_defaults(KubeProxyConfiguration())
    set_field(config, path, value)
    found = [said for said in mistakes(config) if said.startswith(f"{path}: ")]
    assert len(found) == 1
    assert fault in found[0]


GOOD: list[tuple[str, Any]] = [
    ("mode", "nftables"),
    ("nftables.minSyncPeriod", ZERO),
    ("nftables.minSyncPeriod", Duration.parse("30s")),
    ("nftables.masqueradeBit", 31),
    ("oomScoreAdj", -1000),
    ("clusterCIDR", "fd00::/64,10.0.0.0/8"),
    ("nodePortAddresses", ["primary"]),
    ("nodePortAddresses", ["0.0.0.0/0", "::/0", "192.0.2.0/24"]),
    ("bindAddress", "::"),
    ("healthzBindAddress", "[2001:db8::1]:65535"),
    ("healthzBindAddress", "0.0.0.0:0"),
    ("detectLocalMode", "NodeCIDR"),
    ("featureGates", {"WinDSR": False, "Other": True}),
    ("clientConnection.qps", -1.0),
]


@pytest.mark.parametrize(("path", "value"), GOOD)
def test_what_is_right_is_let_through(path: str, value: Any) -> None:
    config = apply_defaults(KubeProxyConfiguration())
    set_field(config, path, value)
    assert mistakes(config) == []
    assert get_field(config, path) == value


INTERFACES = [
    ("BridgeInterface", "detectLocal.bridgeInterface", "", "must be set"),
    ("BridgeInterface", "detectLocal.bridgeInterface", "a/b", "not the name of an interface"),
    ("BridgeInterface", "detectLocal.bridgeInterface", "cni0", ""),
    ("InterfaceNamePrefix", "detectLocal.interfaceNamePrefix", "", "must be set"),
    ("InterfaceNamePrefix", "detectLocal.interfaceNamePrefix", "v" * 16, "not the name of an interface"),
    ("InterfaceNamePrefix", "detectLocal.interfaceNamePrefix", "veth", ""),
    ("ClusterCIDR", "detectLocal.interfaceNamePrefix", "", ""),
]


@pytest.mark.parametrize(("mode", "path", "value", "fault"), INTERFACES)
def test_interfaces_are_needed_in_their_modes(mode: str, path: str, value: str, fault: str) -> None:
    config = apply_defaults(KubeProxyConfiguration(detect_local_mode=mode))
    set_field(config, path, value)
    found = mistakes(config)
    assert bool(found) is bool(fault)
    assert all(said.startswith(f"{path}: ") and fault in said for said in found)


def test_all_mistakes_are_told_at_once() -> None:
    config = apply_defaults(KubeProxyConfiguration(mode="magic", cluster_cidr="x"))
    config.conntrack.min = -5
    with pytest.raises(UserError) as caught:
        check(config, "proxy.yaml")
    said = str(caught.value)
    assert said.startswith("proxy.yaml: mode: ")
    assert said.count("; ") == 2
    assert "conntrack.min: -5" in said
    check(apply_defaults(KubeProxyConfiguration()), "proxy.yaml")
