"""U4: what fields mean that were not given."""

from __future__ import annotations

import pytest

from kpng.proxyconfig import Duration, KubeProxyConfiguration, apply_defaults, mistakes
from kpng.proxyconfig.fields import get_field, set_field

DEFAULTS = {
    "bindAddress": "0.0.0.0",
    "healthzBindAddress": "0.0.0.0:10256",
    "metricsBindAddress": "127.0.0.1:10249",
    "mode": "",
    "oomScoreAdj": -999,
    "iptables.masqueradeBit": 14,
    "iptables.localhostNodePorts": True,
    "nftables.masqueradeBit": 14,
    "conntrack.maxPerCore": 32768,
    "conntrack.min": 131072,
    "clientConnection.qps": 5,
    "clientConnection.burst": 10,
    "clientConnection.contentType": "application/vnd.kubernetes.protobuf",
    "logging.format": "text",
}
DURATIONS = {
    "iptables.syncPeriod": "30s",
    "iptables.minSyncPeriod": "1s",
    "ipvs.syncPeriod": "30s",
    "ipvs.minSyncPeriod": "0s",
    "nftables.syncPeriod": "30s",
    "nftables.minSyncPeriod": "1s",
    "conntrack.tcpEstablishedTimeout": "24h0m0s",
    "conntrack.tcpCloseWaitTimeout": "1h0m0s",
    "conntrack.udpTimeout": "0s",
    "configSyncPeriod": "15m0s",
    "logging.flushFrequency": "5s",
}


@pytest.mark.parametrize("path", [*DEFAULTS, *DURATIONS])
def test_default(path: str) -> None:
    value = get_field(apply_defaults(KubeProxyConfiguration()), path)
    assert (str(value) if path in DURATIONS else value) == {**DEFAULTS, **DURATIONS}[path]


ADDRESSES = [
    # bindAddress, healthz, metrics -> healthz, metrics
    ("", "", "", "0.0.0.0:10256", "127.0.0.1:10249"),
    ("192.0.2.1", "", "", "0.0.0.0:10256", "127.0.0.1:10249"),
    ("::", "", "", "[::]:10256", "[::1]:10249"),
    ("2001:db8::1", "", "", "[::]:10256", "[::1]:10249"),
    ("", "192.0.2.1", "192.0.2.2", "192.0.2.1:10256", "192.0.2.2:10249"),
    ("", "::", "::1", "[::]:10256", "[::1]:10249"),
    ("", "[::]", "[::1]", "[::]:10256", "[::1]:10249"),
    ("", "0.0.0.0:1", "[::1]:2", "0.0.0.0:1", "[::1]:2"),
    ("", "0.0.0.0:0", "127.0.0.1:0", "0.0.0.0:0", "127.0.0.1:0"),
]


@pytest.mark.parametrize("row", ADDRESSES)
def test_addresses_follow_the_family_and_get_a_port(row: tuple[str, str, str, str, str]) -> None:
    bind, healthz, metrics, *wanted = row
    config = KubeProxyConfiguration(bind_address=bind, healthz_bind_address=healthz, metrics_bind_address=metrics)
    apply_defaults(config)
    assert [config.healthz_bind_address, config.metrics_bind_address] == wanted


@pytest.mark.parametrize(
    ("path", "zero"),
    [
        ("oomScoreAdj", 0),
        ("iptables.masqueradeBit", 0),
        ("nftables.masqueradeBit", 0),
        ("iptables.localhostNodePorts", False),
        ("conntrack.maxPerCore", 0),
        ("conntrack.min", 0),
        ("conntrack.tcpEstablishedTimeout", Duration()),
        ("conntrack.tcpCloseWaitTimeout", Duration()),
    ],
)
def test_zero_is_not_nothing_where_the_field_tells_them_apart(path: str, zero: object) -> None:
    config = KubeProxyConfiguration()
    set_field(config, path, zero)
    assert get_field(apply_defaults(config), path) == zero


def test_once_more_changes_nothing() -> None:
    config = apply_defaults(KubeProxyConfiguration())
    assert apply_defaults(apply_defaults(KubeProxyConfiguration())) == config


def test_two_configurations_share_nothing() -> None:
    one, other = KubeProxyConfiguration(), KubeProxyConfiguration()
    one.node_port_addresses.append("primary")
    one.feature_gates["A"] = True
    assert other.node_port_addresses == []
    assert other.feature_gates == {}


@pytest.mark.parametrize("path", ["healthzBindAddress", "metricsBindAddress"])
def test_x16_serving_nothing_can_be_said(path: str) -> None:
    config = KubeProxyConfiguration()
    set_field(config, path, "0.0.0.0:0")
    assert mistakes(apply_defaults(config)) == []
    assert get_field(config, path) == "0.0.0.0:0"
