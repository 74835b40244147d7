"""The fields of KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1), named as the API names them.

Fields whose type is ``X | None`` tell "not given" (None) from zero; all others take zero for "not given", as in
the API. Defaults are applied afterwards (`defaults.py`).
"""

from __future__ import annotations

from msgspec import Struct, field

from .duration import Duration

API_VERSION = "kubeproxy.config.k8s.io/v1alpha1"
KIND = "KubeProxyConfiguration"

_ACRONYMS = {"arp": "ARP", "cidr": "CIDR", "cidrs": "CIDRs", "dsr": "DSR"}
_ONE_WORD = {"api_version": "apiVersion", "tcp_fin_timeout": "tcpFinTimeout", "vmodule": "vmodule"}


def api_name(name: str) -> str:
    """``cluster_cidr`` -> ``clusterCIDR``."""
    if name in _ONE_WORD:
        return _ONE_WORD[name]
    first, *others = name.split("_")
    return first + "".join(_ACRONYMS.get(word, word.capitalize()) for word in others)


class Section(Struct, rename=api_name, kw_only=True):
    """A mapping of the configuration. Not frozen: defaults and flags are filled in."""


class FlushFrequency(Duration):
    """A duration that may also be a number of nanoseconds (component-base's TimeOrMetaDuration)."""

    __slots__ = ()


class ClientConnection(Section):
    kubeconfig: str = ""
    accept_content_types: str = ""
    content_type: str = ""
    qps: float = 0.0
    burst: int = 0


class StreamOptions(Section):
    split_stream: bool = False
    info_buffer_size: str | int = "0"


class LoggingOptions(Section):
    text: StreamOptions = field(default_factory=StreamOptions)
    json: StreamOptions = field(default_factory=StreamOptions)


class VModuleItem(Section):
    file_pattern: str = ""
    verbosity: int = 0


class Logging(Section):
    format: str = ""
    flush_frequency: FlushFrequency = field(default_factory=FlushFrequency)
    verbosity: int = 0
    vmodule: list[VModuleItem] = []
    options: LoggingOptions = field(default_factory=LoggingOptions)


class IPTables(Section):
    masquerade_bit: int | None = None
    masquerade_all: bool = False
    localhost_node_ports: bool | None = None
    sync_period: Duration = field(default_factory=Duration)
    min_sync_period: Duration = field(default_factory=Duration)


class IPVS(Section):
    sync_period: Duration = field(default_factory=Duration)
    min_sync_period: Duration = field(default_factory=Duration)
    scheduler: str = ""
    exclude_cidrs: list[str] = []
    strict_arp: bool = False
    tcp_timeout: Duration = field(default_factory=Duration)
    tcp_fin_timeout: Duration = field(default_factory=Duration)
    udp_timeout: Duration = field(default_factory=Duration)


class NFTables(Section):
    masquerade_bit: int | None = None
    masquerade_all: bool = False
    sync_period: Duration = field(default_factory=Duration)
    min_sync_period: Duration = field(default_factory=Duration)


class Winkernel(Section):
    network_name: str = ""
    source_vip: str = ""
    enable_dsr: bool = False
    root_hns_endpoint_name: str = ""
    forward_health_check_vip: bool = False


class DetectLocal(Section):
    bridge_interface: str = ""
    interface_name_prefix: str = ""


class Conntrack(Section):
    max_per_core: int | None = None
    min: int | None = None
    tcp_established_timeout: Duration | None = None
    tcp_close_wait_timeout: Duration | None = None
    tcp_be_liberal: bool = False
    udp_timeout: Duration = field(default_factory=Duration)
    udp_stream_timeout: Duration = field(default_factory=Duration)


class KubeProxyConfiguration(Section):
    """The whole configuration of one proxy."""

    api_version: str = API_VERSION
    kind: str = KIND
    feature_gates: dict[str, bool] = {}
    client_connection: ClientConnection = field(default_factory=ClientConnection)
    logging: Logging = field(default_factory=Logging)
    hostname_override: str = ""
    bind_address: str = ""
    healthz_bind_address: str = ""
    metrics_bind_address: str = ""
    bind_address_hard_fail: bool = False
    enable_profiling: bool = False
    show_hidden_metrics_for_version: str = ""
    mode: str = ""
    iptables: IPTables = field(default_factory=IPTables)
    ipvs: IPVS = field(default_factory=IPVS)
    nftables: NFTables = field(default_factory=NFTables)
    winkernel: Winkernel = field(default_factory=Winkernel)
    detect_local_mode: str = ""
    detect_local: DetectLocal = field(default_factory=DetectLocal)
    cluster_cidr: str = ""
    node_port_addresses: list[str] = []
    oom_score_adj: int | None = None
    conntrack: Conntrack = field(default_factory=Conntrack)
    config_sync_period: Duration = field(default_factory=Duration)
    port_range: str = ""
    windows_run_as_service: bool = False
