"""U7, U8, U1: kube-proxy's command line."""

from __future__ import annotations

from typing import Any

import click
import pytest

from kpng.proxyconfig import (
    FLAGS,
    KubeProxyConfiguration,
    apply_defaults,
    config_from_flags,
    flag_options,
    overlay_flags,
)
from kpng.proxyconfig.fields import get_field, leaf_paths

U8 = set(
    """
    bind-address bind-address-hard-fail boot-id-file cleanup cluster-cidr config config-sync-period
    conntrack-max-per-core conntrack-min conntrack-tcp-be-liberal conntrack-tcp-timeout-close-wait
    conntrack-tcp-timeout-established conntrack-udp-timeout conntrack-udp-timeout-stream
    detect-local-mode feature-gates healthz-bind-address healthz-port hostname-override init-only
    iptables-localhost-nodeports iptables-masquerade-bit iptables-min-sync-period iptables-sync-period
    ipvs-exclude-cidrs ipvs-min-sync-period ipvs-scheduler ipvs-strict-arp ipvs-sync-period
    ipvs-tcp-timeout ipvs-tcpfin-timeout ipvs-udp-timeout kube-api-burst kube-api-content-type
    kube-api-qps kubeconfig log-flush-frequency log-json-info-buffer-size log-json-split-stream
    log-text-info-buffer-size log-text-split-stream logging-format machine-id-file masquerade-all master
    metrics-bind-address metrics-port nodeport-addresses oom-score-adj pod-bridge-interface
    pod-interface-name-prefix profiling proxy-mode show-hidden-metrics-for-version v version vmodule
    write-config-to
    """.split()  # noqa: SIM905 - a list is easier to read
)


def test_u8_the_flags_are_those_of_kube_proxy() -> None:
    assert sorted(flag.name for flag in FLAGS) == sorted(U8)


def test_u8_deprecated_flags_are_hidden() -> None:
    assert {flag.name for flag in FLAGS if flag.hidden} == {"healthz-port", "metrics-port"}


def test_every_path_exists_and_each_flag_has_a_help_of_its_own_length() -> None:
    paths = set(leaf_paths())
    for flag in FLAGS:
        assert not flag.path or flag.path in paths, flag.name
        assert not flag.twin or flag.twin in paths, flag.name
        assert flag.help.endswith("."), flag.name


def parse(*words: str) -> dict[str, Any]:
    command = click.Command("proxy", params=list(flag_options()), callback=lambda **values: values)
    given: dict[str, Any] = command.main(list(words), standalone_mode=False)
    return given


def flags(*words: str) -> KubeProxyConfiguration:
    return apply_defaults(config_from_flags(parse(*words)))


def test_no_flags_are_the_defaults() -> None:
    assert flags() == apply_defaults(KubeProxyConfiguration())


SET: list[tuple[str, str, Any]] = [
    ("--bind-address=192.0.2.1", "bindAddress", "192.0.2.1"),
    ("--bind-address-hard-fail", "bindAddressHardFail", True),
    ("--bind-address-hard-fail=false", "bindAddressHardFail", False),
    ("--iptables-localhost-nodeports=false", "iptables.localhostNodePorts", False),
    ("--cluster-cidr=10.0.0.0/8,fd00::/8", "clusterCIDR", "10.0.0.0/8,fd00::/8"),
    ("--config-sync-period=1m", "configSyncPeriod", "1m0s"),
    ("--conntrack-max-per-core=0", "conntrack.maxPerCore", 0),
    ("--conntrack-tcp-timeout-established=0", "conntrack.tcpEstablishedTimeout", "0s"),
    ("--feature-gates=A=true,B=false", "featureGates", {"A": True, "B": False}),
    ("--healthz-bind-address=127.0.0.1:1", "healthzBindAddress", "127.0.0.1:1"),
    ("--healthz-port=0", "healthzBindAddress", "0.0.0.0:0"),
    ("--healthz-port=99", "healthzBindAddress", "0.0.0.0:99"),
    ("--healthz-bind-address=127.0.0.1:1 --healthz-port=99", "healthzBindAddress", "127.0.0.1:1"),
    ("--healthz-bind-address=127.0.0.1 --healthz-port=99", "healthzBindAddress", "127.0.0.1:99"),
    ("--healthz-bind-address=127.0.0.1:1 --healthz-port=0", "healthzBindAddress", "127.0.0.1:0"),
    ("--metrics-port=0", "metricsBindAddress", "127.0.0.1:0"),
    ("--hostname-override=n1", "hostnameOverride", "n1"),
    ("--ipvs-exclude-cidrs=10.0.0.0/8,10.1.0.0/16", "ipvs.excludeCIDRs", ["10.0.0.0/8", "10.1.0.0/16"]),
    ("--kube-api-qps=2.5", "clientConnection.qps", 2.5),
    ("--kubeconfig /etc/k", "clientConnection.kubeconfig", "/etc/k"),
    ("--nodeport-addresses=primary", "nodePortAddresses", ["primary"]),
    ("--oom-score-adj=-5", "oomScoreAdj", -5),
    ("--oom-score-adj -5", "oomScoreAdj", -5),
    ("--proxy-mode nftables", "mode", "nftables"),
    ("-v=4", "logging.verbosity", 4),
    ("-v 4", "logging.verbosity", 4),
    ("-v4", "logging.verbosity", 4),
    ("--v=4", "logging.verbosity", 4),
    ("--masquerade-all", "nftables.masqueradeAll", True),
    ("--masquerade-all", "iptables.masqueradeAll", True),
    ("--iptables-masquerade-bit=3", "nftables.masqueradeBit", 3),
    ("--iptables-sync-period=10s", "nftables.syncPeriod", "10s"),
    ("--iptables-min-sync-period=2s", "nftables.minSyncPeriod", "2s"),
]


@pytest.mark.parametrize(("words", "path", "value"), SET)
def test_u7_a_flag_sets_its_field(words: str, path: str, value: Any) -> None:
    found = get_field(flags(*words.split()), path)
    assert (str(found) if isinstance(value, str) else found) == value


@pytest.mark.parametrize(
    "word",
    ["--cleanup=maybe", "--oom-score-adj=low", "--kube-api-qps=x", "--config-sync-period=5", "--feature-gates=A",
     "--vmodule=x", "-v=high", "--no-such-flag"],
)  # fmt: skip
def test_a_bad_value_is_refused(word: str) -> None:
    with pytest.raises(click.UsageError):
        parse(word)


def test_a_flag_without_value_does_not_swallow_the_next() -> None:
    given = parse("--masquerade-all", "--hostname-override", "n1", "--cleanup")
    assert (given["masquerade_all"], given["hostname_override"], given["cleanup"]) == (True, "n1", True)


BESIDE = {
    "hostname-override", "master", "cleanup", "init-only", "write-config-to", "version", "config", "v", "vmodule",
    "logging-format", "log-flush-frequency", "log-json-info-buffer-size", "log-json-split-stream",
    "log-text-info-buffer-size", "log-text-split-stream",
}  # fmt: skip


def test_u1_which_flags_count_beside_a_file() -> None:
    assert {flag.name for flag in FLAGS if flag.beside_config} == BESIDE


def test_u1_flags_beside_a_file() -> None:
    config = KubeProxyConfiguration(hostname_override="file", mode="nftables")
    config.logging.vmodule = parse("--vmodule=a=1")["vmodule"]
    given = parse("--hostname-override=flag", "--proxy-mode=ipvs", "--masquerade-all", "--vmodule=b=2", "-v=5")
    assert overlay_flags(config, given) == ["--masquerade-all", "--proxy-mode"]
    assert (config.hostname_override, config.mode, config.logging.verbosity) == ("flag", "nftables", 5)
    assert [(item.file_pattern, item.verbosity) for item in config.logging.vmodule] == [("a", 1), ("b", 2)]
    assert not config.nftables.masquerade_all
