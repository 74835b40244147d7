"""What values a configuration may have (semantics U5). All mistakes are told, each with its field."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kpng.model import InvalidObjectError, UserError, family_of, parse_cidr, quoted

from .addresses import is_address, split_host_port
from .duration import Duration
from .fields import get_field
from .types import KubeProxyConfiguration

MODES = ("iptables", "ipvs", "nftables")
DETECT_LOCAL_MODES = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")
PRIMARY = "primary"
_INTERFACE_NAME = re.compile(r"[^\s/:]{1,15}")
_LOG_FORMATS = ("text", "json")
_WINDOWS_GATES = ("WinDSR", "WinOverlay")

_Check = Callable[[Any], str]
"""The fault in a value; "" where there is none."""


def check(config: KubeProxyConfiguration, origin: str) -> None:
    """Raises `kpng.UserError` that tells all mistakes."""
    if found := mistakes(config):
        raise UserError(f"{origin}: {'; '.join(found)}")


def mistakes(config: KubeProxyConfiguration) -> list[str]:
    """``field: what is wrong``, for a configuration with its defaults."""
    faults = [(path, fault) for path, test in _CHECKS.items() if (fault := test(get_field(config, path)))]
    faults += _together(config)
    return [f"{path}: {fault}" for path, fault in faults]


def _positive(value: Duration) -> str:
    return "" if value.nanoseconds > 0 else f"{value} is not greater than 0"


def _not_negative(value: Duration | float) -> str:
    zero = Duration() if isinstance(value, Duration) else 0
    return f"{value} is less than 0" if value < zero else ""  # type: ignore[operator]


def _between(low: int, high: int) -> _Check:
    return lambda value: "" if low <= value <= high else f"{value} is not between {low} and {high}"


def _one_of(allowed: Sequence[str]) -> _Check:
    return lambda value: "" if value in ("", *allowed) else f"{quoted(value)} is none of {', '.join(allowed)}"


def _address(value: str) -> str:
    return "" if is_address(value) else f"{quoted(value)} is not an IP address"


def _bind_address(value: str) -> str:
    """Port 0 is kpng's own: it serves nothing, which kube-proxy's configuration cannot say (X16)."""
    host, port = split_host_port(value)
    if not is_address(host):
        return f"{quoted(value)} is not of the form IP:port"
    return "" if port.isdecimal() and int(port) <= 65535 else f"{quoted(port)} is not a port number"


def _cidr(value: str) -> str:
    try:
        parse_cidr(value)
    except InvalidObjectError as error:
        return error.message
    return ""


def _cidrs(values: Sequence[str]) -> str:
    return next((fault for value in values if (fault := _cidr(value))), "")


def _cluster_cidr(value: str) -> str:
    """One CIDR, or one of each family."""
    if not value:
        return ""
    cidrs = value.split(",")
    if fault := _cidrs(cidrs):
        return fault
    if len(cidrs) > 2:
        return f"{quoted(value)} are more than two CIDRs"
    twice = len(cidrs) == 2 and family_of(cidrs[0]) is family_of(cidrs[1])
    return f"{quoted(value)} are two CIDRs of one family" if twice else ""


def _node_port_addresses(values: Sequence[str]) -> str:
    if PRIMARY in values:
        return "" if len(values) == 1 else f"{PRIMARY} must stand alone"
    return _cidrs(values)


def _feature_gates(gates: dict[str, bool]) -> str:
    windows = [name for name in _WINDOWS_GATES if gates.get(name)]
    return f"{', '.join(windows)}: for Windows only" if windows else ""


_CHECKS: dict[str, _Check] = {
    "featureGates": _feature_gates,
    "clientConnection.burst": _not_negative,
    "logging.format": _one_of(_LOG_FORMATS),
    "logging.flushFrequency": _not_negative,
    "logging.verbosity": _not_negative,
    "bindAddress": _address,
    "healthzBindAddress": _bind_address,
    "metricsBindAddress": _bind_address,
    "mode": _one_of(MODES),
    "iptables.masqueradeBit": _between(0, 31),
    "iptables.syncPeriod": _positive,
    "iptables.minSyncPeriod": _not_negative,
    "ipvs.syncPeriod": _positive,
    "ipvs.minSyncPeriod": _not_negative,
    "ipvs.excludeCIDRs": _cidrs,
    "ipvs.tcpTimeout": _not_negative,
    "ipvs.tcpFinTimeout": _not_negative,
    "ipvs.udpTimeout": _not_negative,
    "nftables.masqueradeBit": _between(0, 31),
    "nftables.syncPeriod": _positive,
    "nftables.minSyncPeriod": _not_negative,
    "detectLocalMode": _one_of(DETECT_LOCAL_MODES),
    "clusterCIDR": _cluster_cidr,
    "nodePortAddresses": _node_port_addresses,
    "oomScoreAdj": _between(-1000, 1000),
    "conntrack.maxPerCore": _not_negative,
    "conntrack.min": _not_negative,
    "conntrack.tcpEstablishedTimeout": _not_negative,
    "conntrack.tcpCloseWaitTimeout": _not_negative,
    "conntrack.udpTimeout": _not_negative,
    "conntrack.udpStreamTimeout": _not_negative,
    "configSyncPeriod": _positive,
}


def _together(config: KubeProxyConfiguration) -> Iterator[tuple[str, str]]:
    """Faults that only two fields together have."""
    for mode in MODES:
        period, least = get_field(config, f"{mode}.syncPeriod"), get_field(config, f"{mode}.minSyncPeriod")
        if least > period:
            yield f"{mode}.minSyncPeriod", f"{least} is more than {mode}.syncPeriod, {period}"
    named = {
        "BridgeInterface": "detectLocal.bridgeInterface",
        "InterfaceNamePrefix": "detectLocal.interfaceNamePrefix",
    }
    if path := named.get(config.detect_local_mode):
        value = get_field(config, path)
        if not value:
            yield path, f"must be set with detectLocalMode {config.detect_local_mode}"
        elif not _INTERFACE_NAME.fullmatch(value):
            yield path, f"{quoted(value)} is not the name of an interface"
