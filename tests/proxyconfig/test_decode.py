"""Reading and writing a KubeProxyConfiguration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpng.model import UserError
from kpng.proxyconfig import (
    Duration,
    KubeProxyConfiguration,
    apply_defaults,
    ignored_fields,
    mistakes,
    read_configuration,
    write_configuration,
)
from kpng.proxyconfig.fields import get_field, leaf_paths, set_field

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"

KUBEADM = (
    HEAD
    + """
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
"""
)


def read(text: str) -> KubeProxyConfiguration:
    reading = read_configuration(text.encode(), "proxy.yaml")
    assert reading.warnings == ()
    return reading.config


def test_what_kubeadm_writes_is_the_defaults_and_draws_no_warning() -> None:
    config = apply_defaults(read(KUBEADM))
    wanted = apply_defaults(KubeProxyConfiguration())
    wanted.client_connection.kubeconfig = "/var/lib/kube-proxy/kubeconfig.conf"
    wanted.cluster_cidr = "10.244.0.0/16"
    assert config == wanted
    assert mistakes(config) == []
    assert list(ignored_fields(config)) == []


VALUES = {
    "featureGates": "{A: true, B: false}",
    "clientConnection.qps": "2",
    "clientConnection.burst": "7",
    "logging.flushFrequency": "7s",
    "logging.vmodule": "[{filePattern: gopher, verbosity: 3}]",
    "logging.options.json.infoBufferSize": "16Ki",
    "logging.options.text.infoBufferSize": "500",
    "iptables.localhostNodePorts": "false",
    "iptables.masqueradeBit": "0",
    "ipvs.excludeCIDRs": "[10.0.0.0/8]",
    "ipvs.strictARP": "true",
    "winkernel.enableDSR": "true",
    "winkernel.rootHnsEndpointName": "cbr0",
    "clusterCIDR": "10.0.0.0/8,fd00::/48",
    "nodePortAddresses": "[primary]",
    "oomScoreAdj": "0",
    "conntrack.maxPerCore": "0",
    "conntrack.tcpEstablishedTimeout": "0s",
    "conntrack.udpStreamTimeout": "1h30m",
    "configSyncPeriod": "1m",
}


def nested(path: str, value: str) -> str:
    parts = path.split(".")
    lines = [f"{'  ' * depth}{part}:" for depth, part in enumerate(parts)]
    return "\n".join(lines) + f" {value}\n"


@pytest.mark.parametrize("path", VALUES)
def test_a_value_arrives_and_is_written_again(path: str) -> None:
    config = apply_defaults(read(HEAD + nested(path, VALUES[path])))
    usual = apply_defaults(KubeProxyConfiguration())
    assert get_field(config, path) != get_field(usual, path)
    set_field(usual, path, get_field(config, path))
    assert usual == config, "something else changed too"
    assert read(write_configuration(config)) == config


@given(st.sampled_from([0, 1, 1000]), st.sampled_from(["", "IP:port", "ü", "yes", "1"]))
def test_every_field_survives_being_written(number: int, text: str) -> None:
    config = KubeProxyConfiguration()
    for path in leaf_paths():
        value = get_field(config, path)
        if isinstance(value, Duration) or type(value) in (int, bool):
            set_field(config, path, type(value)(number))
        elif isinstance(value, str) and "infoBufferSize" not in path:
            set_field(config, path, text)
    assert read(write_configuration(apply_defaults(config))) == config


WARNED = {
    "unknown": ("modee: nftables\n", "unknown field modee"),
    "unknown inside": ("nftables: {syncPriod: 5s}\n", "unknown field nftables.syncPriod"),
    "spelled otherwise": ("clusterCidr: 10.0.0.0/8\n", "unknown field clusterCidr"),
    "twice": ("mode: ipvs\nmode: nftables\n", "proxy.yaml:4: mode is given twice"),
    "twice inside": ("nftables:\n  masqueradeBit: 1\n  masqueradeBit: 2\n", "proxy.yaml:5: masqueradeBit is given"),
}


@pytest.mark.parametrize("name", WARNED)
def test_u2_what_a_strict_reader_refuses_is_named_and_read_anyway(name: str) -> None:
    text, warning = WARNED[name]
    reading = read_configuration((HEAD + text + "hostnameOverride: n1\n").encode(), "proxy.yaml")
    assert reading.config.hostname_override == "n1"
    assert len(reading.warnings) == 1
    assert warning in reading.warnings[0]


def test_u2_the_last_of_two_counts() -> None:
    text = HEAD + "mode: ipvs\nmode: nftables\nclusterCIDR: a\nclusterCIDR: b\nclusterCIDR: c\n"
    reading = read_configuration(text.encode(), "f")
    assert (reading.config.mode, reading.config.cluster_cidr) == ("nftables", "c")
    assert len(reading.warnings) == 3


REFUSED = {
    "not yaml": ("a: [", "proxy.yaml:", "not valid YAML"),
    "not text": ("\udcff", "proxy.yaml: not UTF-8 text"),
    "nothing": ("", "holds 0 documents"),
    "two": (HEAD + "---\n" + HEAD, "holds 2 documents"),
    "a list": ("- 1\n", "no mapping"),
    "no kind": ("mode: nftables\n", "apiVersion: missing"),
    "other version": (HEAD.replace("v1alpha1", "v1"), "apiVersion: 'kubeproxy.config.k8s.io/v1'"),
    "other kind": (HEAD.replace("KubeProxyConfiguration", "KubeletConfiguration"), "kind: 'KubeletConfiguration'"),
    "wrong type": (HEAD + "nftables: {masqueradeBit: high}\n", "nftables.masqueradeBit: expected"),
    "text for a bool": (HEAD + 'bindAddressHardFail: "true"\n', "bindAddressHardFail: expected"),
    "number for a duration": (HEAD + "configSyncPeriod: 5\n", "configSyncPeriod: a duration must be a string"),
    "bad duration": (HEAD + "nftables: {syncPeriod: 5 s}\n", "nftables.syncPeriod: '5 s' is not a duration"),
    "text for a list": (HEAD + "nodePortAddresses: primary\n", "nodePortAddresses: expected"),
    "text for a section": (HEAD + "conntrack: many\n", "conntrack: expected"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_one_line(name: str) -> None:
    text, *said = REFUSED[name]
    with pytest.raises(UserError) as caught:
        read_configuration(text.encode(errors="surrogateescape"), "proxy.yaml")
    assert "\n" not in str(caught.value)
    for part in said:
        assert part in str(caught.value)


def test_json_is_read_too() -> None:
    text = '{"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "ipvs"}'
    assert read(text).mode == "ipvs"


def test_a_flush_frequency_may_be_a_number() -> None:
    assert read(HEAD + "logging: {flushFrequency: 5000000000}\n").logging.flush_frequency.seconds == 5
