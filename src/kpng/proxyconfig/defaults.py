"""What fields mean that were not given (semantics U4)."""

from __future__ import annotations

from typing import Any

from .addresses import is_ipv6, join_host_port, split_host_port
from .duration import Duration
from .fields import get_field, set_field
from .types import FlushFrequency, KubeProxyConfiguration

HEALTHZ_PORT = 10256
METRICS_PORT = 10249

_SECOND = 1_000_000_000
DEFAULTS: dict[str, Any] = {
    "bindAddress": "0.0.0.0",
    "clientConnection.contentType": "application/vnd.kubernetes.protobuf",
    "clientConnection.qps": 5.0,
    "clientConnection.burst": 10,
    "logging.format": "text",
    "logging.flushFrequency": FlushFrequency(5 * _SECOND),
    "iptables.masqueradeBit": 14,
    "iptables.localhostNodePorts": True,
    "iptables.syncPeriod": Duration(30 * _SECOND),
    "iptables.minSyncPeriod": Duration(_SECOND),
    "ipvs.syncPeriod": Duration(30 * _SECOND),
    "nftables.masqueradeBit": 14,
    "nftables.syncPeriod": Duration(30 * _SECOND),
    "nftables.minSyncPeriod": Duration(_SECOND),
    "oomScoreAdj": -999,
    "conntrack.maxPerCore": 32 * 1024,
    "conntrack.min": 128 * 1024,
    "conntrack.tcpEstablishedTimeout": Duration(24 * 3600 * _SECOND),
    "conntrack.tcpCloseWaitTimeout": Duration(3600 * _SECOND),
    "configSyncPeriod": Duration(15 * 60 * _SECOND),
}
"""The fields whose default is not zero and does not depend on others."""


def apply_defaults(config: KubeProxyConfiguration) -> KubeProxyConfiguration:
    """Fill in every field that was not given; returns its argument."""
    blank = KubeProxyConfiguration()
    for path, default in DEFAULTS.items():
        if get_field(config, path) == get_field(blank, path):
            set_field(config, path, default)
    everywhere, here = ("::", "::1") if is_ipv6(config.bind_address) else ("0.0.0.0", "127.0.0.1")
    config.healthz_bind_address = _with_port(config.healthz_bind_address or everywhere, HEALTHZ_PORT)
    config.metrics_bind_address = _with_port(config.metrics_bind_address or here, METRICS_PORT)
    return config


def _with_port(address: str, default: int) -> str:
    host, port = split_host_port(address)
    return address if port else join_host_port(host, default)
