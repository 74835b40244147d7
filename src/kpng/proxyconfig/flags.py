"""kube-proxy's command line (1.36; semantics U8), as click options that fill in a configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import click
from msgspec import Struct

from .addresses import join_host_port, split_host_port
from .defaults import apply_defaults
from .fields import get_field, set_field
from .flag_types import BOOLEAN, DECIMAL, DURATION, FLUSH, GATES, LIST, NUMBER, STRING, VMODULE, FlagType
from .types import KubeProxyConfiguration


class Flag(Struct, frozen=True):
    """One flag. ``path`` is the field it sets, "" where it sets none. ``twin`` is set along with it (U7);
    ``beside_config``: it counts with ``--config`` too (U1)."""

    name: str
    path: str
    type: FlagType
    help: str
    beside_config: bool = False
    hidden: bool = False
    twin: str = ""

    @property
    def parameter(self) -> str:
        return "verbosity" if self.name == "v" else self.name.replace("-", "_")


_UNUSED = "Not used; accepted for compatibility."
_OTHER = "Of another mode; accepted for compatibility."

FLAGS: tuple[Flag, ...] = (
    Flag("bind-address", "bindAddress", STRING, "This node's address, instead of the Node object's."),
    Flag("bind-address-hard-fail", "bindAddressHardFail", BOOLEAN, "End where an address cannot be listened on."),
    Flag("boot-id-file", "", STRING, _UNUSED),
    Flag("cleanup", "", BOOLEAN, "Remove what kpng and kube-proxy have programmed, and exit.", True),
    Flag("cluster-cidr", "clusterCIDR", STRING, "The pods' addresses: a CIDR, or one of each family with a comma."),
    Flag("config", "", STRING, "A KubeProxyConfiguration (v1alpha1), in place of most flags.", True),
    Flag("config-sync-period", "configSyncPeriod", DURATION, _UNUSED),
    Flag("conntrack-max-per-core", "conntrack.maxPerCore", NUMBER, "Tracked connections per CPU; 0: as it is."),
    Flag("conntrack-min", "conntrack.min", NUMBER, "The fewest tracked connections to allow for."),
    Flag("conntrack-tcp-be-liberal", "conntrack.tcpBeLiberal", BOOLEAN, "Accept TCP segments outside the window."),
    Flag(
        "conntrack-tcp-timeout-close-wait",
        "conntrack.tcpCloseWaitTimeout",
        DURATION,
        "How long conntrack keeps TCP connections in CLOSE_WAIT; 0s: as it is.",
    ),
    Flag(
        "conntrack-tcp-timeout-established",
        "conntrack.tcpEstablishedTimeout",
        DURATION,
        "How long conntrack keeps idle TCP connections; 0s: as it is.",
    ),
    Flag("conntrack-udp-timeout", "conntrack.udpTimeout", DURATION, "How long unanswered UDP flows are kept."),
    Flag("conntrack-udp-timeout-stream", "conntrack.udpStreamTimeout", DURATION, "How long UDP streams are kept."),
    Flag(
        "detect-local-mode",
        "detectLocalMode",
        STRING,
        "How to tell pods of this node: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix.",
    ),
    Flag("feature-gates", "featureGates", GATES, "AllowServiceExternalIPs=false: spec.externalIPs do not count."),
    Flag("healthz-bind-address", "healthzBindAddress", STRING, "Where /healthz and /livez are; port 0: nowhere."),
    Flag("healthz-port", "", NUMBER, "The port of --healthz-bind-address; 0: nowhere.", hidden=True),
    Flag("hostname-override", "hostnameOverride", STRING, "The name of this Node, instead of the host's.", True),
    Flag("init-only", "", BOOLEAN, "Do what needs privileges (sysctls), and exit: for an init container.", True),
    Flag("iptables-localhost-nodeports", "iptables.localhostNodePorts", BOOLEAN, _OTHER),
    Flag(
        "iptables-masquerade-bit",
        "iptables.masqueradeBit",
        NUMBER,
        _UNUSED,
        twin="nftables.masqueradeBit",
    ),
    Flag("iptables-min-sync-period", "iptables.minSyncPeriod", DURATION, _UNUSED, twin="nftables.minSyncPeriod"),
    Flag(
        "iptables-sync-period",
        "iptables.syncPeriod",
        DURATION,
        "Half the time after which a change not yet made means unhealthy.",
        twin="nftables.syncPeriod",
    ),
    Flag("ipvs-exclude-cidrs", "ipvs.excludeCIDRs", LIST, _OTHER),
    Flag("ipvs-min-sync-period", "ipvs.minSyncPeriod", DURATION, _OTHER),
    Flag("ipvs-scheduler", "ipvs.scheduler", STRING, _OTHER),
    Flag("ipvs-strict-arp", "ipvs.strictARP", BOOLEAN, _OTHER),
    Flag("ipvs-sync-period", "ipvs.syncPeriod", DURATION, _OTHER),
    Flag("ipvs-tcp-timeout", "ipvs.tcpTimeout", DURATION, _OTHER),
    Flag("ipvs-tcpfin-timeout", "ipvs.tcpFinTimeout", DURATION, _OTHER),
    Flag("ipvs-udp-timeout", "ipvs.udpTimeout", DURATION, _OTHER),
    Flag("kube-api-burst", "clientConnection.burst", NUMBER, _UNUSED),
    Flag("kube-api-content-type", "clientConnection.contentType", STRING, _UNUSED),
    Flag("kube-api-qps", "clientConnection.qps", DECIMAL, _UNUSED),
    Flag("kubeconfig", "clientConnection.kubeconfig", STRING, "How to reach the API server."),
    Flag("log-flush-frequency", "logging.flushFrequency", FLUSH, _UNUSED, True),
    Flag("log-json-info-buffer-size", "logging.options.json.infoBufferSize", STRING, _UNUSED, True),
    Flag("log-json-split-stream", "logging.options.json.splitStream", BOOLEAN, _UNUSED, True),
    Flag("log-text-info-buffer-size", "logging.options.text.infoBufferSize", STRING, _UNUSED, True),
    Flag("log-text-split-stream", "logging.options.text.splitStream", BOOLEAN, _UNUSED, True),
    Flag("logging-format", "logging.format", STRING, "Log lines for people (text) or machines (json).", True),
    Flag("machine-id-file", "", STRING, _UNUSED),
    Flag("masquerade-all", "iptables.masqueradeAll", BOOLEAN, "Masquerade all connections to cluster IPs.",
         twin="nftables.masqueradeAll"),
    Flag("master", "", STRING, "The API server's URL; overrides the kubeconfig's.", True),
    Flag("metrics-bind-address", "metricsBindAddress", STRING, "Where /proxyMode is; port 0: nowhere."),
    Flag("metrics-port", "", NUMBER, "The port of --metrics-bind-address; 0: nowhere.", hidden=True),
    Flag("nodeport-addresses", "nodePortAddresses", LIST,
         "Where node ports are served: CIDRs, or the word primary for the Node's own addresses."),
    Flag("oom-score-adj", "oomScoreAdj", NUMBER, "How much the kernel spares this process, -1000 to 1000."),
    Flag("pod-bridge-interface", "detectLocal.bridgeInterface", STRING, "The pods' bridge (BridgeInterface)."),
    Flag("pod-interface-name-prefix", "detectLocal.interfaceNamePrefix", STRING,
         "How the names of pods' interfaces begin (InterfaceNamePrefix)."),
    Flag("profiling", "enableProfiling", BOOLEAN, _UNUSED),
    Flag("proxy-mode", "mode", STRING, "nftables; there is no other."),
    Flag("show-hidden-metrics-for-version", "showHiddenMetricsForVersion", STRING, _UNUSED),
    Flag("v", "logging.verbosity", NUMBER, "How much to log; from 4 on, debug lines.", True),
    Flag("version", "", STRING, "Print the version and exit.", True),
    Flag("vmodule", "logging.vmodule", VMODULE, _UNUSED, True),
    Flag("write-config-to", "", STRING, "Write the configuration, all defaults filled in, to this file.", True),
)  # fmt: skip


_USUAL = apply_defaults(KubeProxyConfiguration())


def flag_options() -> list[click.Option]:
    """A click option for each flag; its value is None where it was not given."""
    return [_option(flag) for flag in FLAGS]


def _option(flag: Flag) -> click.Option:
    names = ["-v", "--v", flag.parameter] if flag.name == "v" else [f"--{flag.name}", flag.parameter]
    default = get_field(_USUAL, flag.path) if flag.path else None
    shown = f" [default: {str(default).lower() if default is True else default}]" if default else ""
    option = partial(
        click.Option, names, type=flag.type, metavar=flag.type.name, help=flag.help + shown, hidden=flag.hidden
    )
    if flag.type is BOOLEAN or flag.name == "version":  # the value may be left out
        return option(is_flag=False, flag_value="true")
    return option()


def config_from_flags(values: Mapping[str, Any]) -> KubeProxyConfiguration:
    """The configuration that these flags alone make (U7), before defaults. ``values`` are by `Flag.parameter`."""
    config = KubeProxyConfiguration()
    for flag, value in _given(values):
        for path in filter(None, (flag.path, flag.twin)):
            set_field(config, path, value)
    config.healthz_bind_address = _with_port(config.healthz_bind_address, values.get("healthz_port"), "0.0.0.0")
    config.metrics_bind_address = _with_port(config.metrics_bind_address, values.get("metrics_port"), "127.0.0.1")
    return config


def overlay_flags(config: KubeProxyConfiguration, values: Mapping[str, Any]) -> list[str]:
    """Put the flags that count beside ``--config`` over it; return the names of those that do not (U1)."""
    ignored = []
    for flag, value in _given(values):
        if not flag.beside_config:
            ignored.append(f"--{flag.name}")
        elif flag.type is VMODULE:
            config.logging.vmodule = [*config.logging.vmodule, *value]
        elif flag.path:
            set_field(config, flag.path, value)
    return ignored


def _given(values: Mapping[str, Any]) -> Iterator[tuple[Flag, Any]]:
    return ((flag, value) for flag in FLAGS if (value := values.get(flag.parameter)) is not None)


def _with_port(address: str, port: int | None, default_host: str) -> str:
    """The deprecated flags of ports: 0 serves nowhere, others are for addresses without a port."""
    if port is None:
        return address
    host, own = split_host_port(address or default_host)
    return address if own and port else join_host_port(host, port)
