"""Which fields `kpng proxy` honours, and why not the others. docs/usage.md shows this table; a test compares."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from .defaults import apply_defaults
from .fields import get_field
from .types import KubeProxyConfiguration


class Answer(Struct, frozen=True):
    """What becomes of a field: ``text`` says how it is honoured, or why it is not."""

    honoured: bool
    text: str


def _yes(text: str) -> Answer:
    return Answer(True, text)


def _no(text: str) -> Answer:
    return Answer(False, text)


EXTERNAL_IPS_GATE = "AllowServiceExternalIPs"
"""Whether spec.externalIPs of Services count (KEP-5707): the one feature gate that is honoured."""

_OTHER_MODE = _no("belongs to a mode that kpng proxy does not have; the mode is nftables")
_WINDOWS = _no("is for Windows")
_STREAMS = _no("there is one stream of log lines, standard error, without buffers")

ANSWERS: dict[str, Answer] = {
    "featureGates": _no(f"of the gates there is only {EXTERNAL_IPS_GATE}; what is generally available is on"),
    "clientConnection.kubeconfig": _yes("how the API server is reached"),
    "clientConnection.acceptContentTypes": _no("kpng speaks JSON with the API server"),
    "clientConnection.contentType": _no("kpng speaks JSON with the API server"),
    "clientConnection.qps": _no("kpng makes one watch for each kind of object, and no other requests to limit"),
    "clientConnection.burst": _no("kpng makes one watch for each kind of object, and no other requests to limit"),
    "logging.format": _yes("text or json, in kpng's own form"),
    "logging.flushFrequency": _no("every log line is written at once"),
    "logging.verbosity": _yes("from 4 on, debug lines"),
    "logging.vmodule": _no("names source files of kube-proxy"),
    "logging.options.text.splitStream": _STREAMS,
    "logging.options.text.infoBufferSize": _STREAMS,
    "logging.options.json.splitStream": _STREAMS,
    "logging.options.json.infoBufferSize": _STREAMS,
    "hostnameOverride": _yes("the name of the Node"),
    "bindAddress": _yes("a specific address takes the place of the Node's own of its family"),
    "healthzBindAddress": _yes("/healthz and /livez; port 0: nowhere"),
    "metricsBindAddress": _yes("/healthz, /proxyMode and /configz; port 0: nowhere"),
    "bindAddressHardFail": _yes("the process ends where it cannot listen"),
    "enableProfiling": _no("there are no Go profiles to serve"),
    "showHiddenMetricsForVersion": _no("kpng hides no metrics"),
    "mode": _yes("nftables, or empty for the same; others are refused"),
    "iptables.masqueradeBit": _OTHER_MODE,
    "iptables.masqueradeAll": _OTHER_MODE,
    "iptables.localhostNodePorts": _OTHER_MODE,
    "iptables.syncPeriod": _OTHER_MODE,
    "iptables.minSyncPeriod": _OTHER_MODE,
    "ipvs.syncPeriod": _OTHER_MODE,
    "ipvs.minSyncPeriod": _OTHER_MODE,
    "ipvs.scheduler": _OTHER_MODE,
    "ipvs.excludeCIDRs": _OTHER_MODE,
    "ipvs.strictARP": _OTHER_MODE,
    "ipvs.tcpTimeout": _OTHER_MODE,
    "ipvs.tcpFinTimeout": _OTHER_MODE,
    "ipvs.udpTimeout": _OTHER_MODE,
    "nftables.masqueradeBit": _no("no packet is marked: conntrack knows what must be masqueraded"),
    "nftables.masqueradeAll": _yes("connections to cluster IPs are all masqueraded"),
    "nftables.syncPeriod": _yes("unhealthy is what has waited for twice as long; retries begin far sooner"),
    "nftables.minSyncPeriod": _no("a change costs what it changes, so none is held back"),
    "winkernel.networkName": _WINDOWS,
    "winkernel.sourceVip": _WINDOWS,
    "winkernel.enableDSR": _WINDOWS,
    "winkernel.rootHnsEndpointName": _WINDOWS,
    "winkernel.forwardHealthCheckVip": _WINDOWS,
    "detectLocalMode": _yes("what is a pod of this node"),
    "detectLocal.bridgeInterface": _yes("what is a pod of this node"),
    "detectLocal.interfaceNamePrefix": _yes("what is a pod of this node"),
    "clusterCIDR": _yes("what is a pod of the cluster"),
    "nodePortAddresses": _yes("where node ports and health checks of Services are served"),
    "oomScoreAdj": _yes("of the process"),
    "conntrack.maxPerCore": _yes("net.netfilter.nf_conntrack_max"),
    "conntrack.min": _yes("the least net.netfilter.nf_conntrack_max, whatever the number of cores"),
    "conntrack.tcpEstablishedTimeout": _yes("net.netfilter.nf_conntrack_tcp_timeout_established"),
    "conntrack.tcpCloseWaitTimeout": _yes("net.netfilter.nf_conntrack_tcp_timeout_close_wait"),
    "conntrack.tcpBeLiberal": _yes("net.netfilter.nf_conntrack_tcp_be_liberal"),
    "conntrack.udpTimeout": _yes("net.netfilter.nf_conntrack_udp_timeout"),
    "conntrack.udpStreamTimeout": _yes("net.netfilter.nf_conntrack_udp_timeout_stream"),
    "configSyncPeriod": _no("a watch that breaks is resumed at once; there is nothing to read again by the clock"),
    "portRange": _no("kube-proxy ignores it too"),
    "windowsRunAsService": _WINDOWS,
}


def ignored_fields(config: KubeProxyConfiguration) -> Iterator[str]:
    """A warning for each field that says something and is not heeded. ``config`` has its defaults."""
    usual = apply_defaults(KubeProxyConfiguration())
    for path, answer in ANSWERS.items():
        value = get_field(config, path)
        if path == "featureGates":
            value = {gate: on for gate, on in value.items() if gate != EXTERNAL_IPS_GATE}
        if not answer.honoured and value != get_field(usual, path) and not _said_for_nftables(config, path, value):
            yield f"{path} is set, and not heeded: {answer.text}"


def _said_for_nftables(config: KubeProxyConfiguration, path: str, value: object) -> bool:
    """The flags of the iptables mode also set the fields of nftables (semantics U7)."""
    section, _, name = path.partition(".")
    twin = f"nftables.{name}"
    return section == "iptables" and twin in ANSWERS and get_field(config, twin) == value


def answer_table() -> str:
    """The fields that are not honoured, as a Markdown table; those with one reason share a row."""
    reasons: dict[str, list[str]] = {}
    for path, answer in ANSWERS.items():
        if not answer.honoured:
            reasons.setdefault(answer.text, []).append(f"`{path}`")
    rows = (f"| {', '.join(paths)} | {reason} |" for reason, paths in reasons.items())
    return "\n".join(["| not honoured | why |", "|---|---|", *rows]) + "\n"
