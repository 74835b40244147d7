"""What the user chooses: the options of ``to-nft``, checked."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import click
from msgspec import Struct

from kpng.backends.node_ports import cidr_of, is_loopback, node_port_addresses, node_port_addresses_option, split
from kpng.model import PRIMARY, DetectLocalMode, Family, UserError, family_of, of_family

log = logging.getLogger(__name__)

_LONGEST_INTERFACE_NAME = 15


class Options(Struct, frozen=True):
    """``cluster_cidrs``: at most one of each family. ``pod_interface``: a bridge's name, or a prefix of names.

    ``node_port_addresses``: where node ports are offered, as CIDRs or `PRIMARY`; empty: at all local addresses.
    Loopback CIDRs are among them, for they restrict too.
    """

    cluster_cidrs: tuple[str, ...] = ()
    masquerade_all: bool = False
    hook_priority: int = 0
    detect_local_mode: DetectLocalMode = DetectLocalMode.CLUSTER_CIDR
    pod_interface: str = ""
    node_port_addresses: tuple[str, ...] = ()

    def cluster_cidr(self, family: Family) -> str:
        return next((cidr for cidr in self.cluster_cidrs if family_of(cidr) is family), "")

    def restricts_node_ports(self, family: Family) -> bool:
        """Whether node ports are offered only at some addresses. CIDRs of the other family alone restrict nothing
        here, and neither does one that is everything (kube-proxy does so too)."""
        if self.node_port_addresses == PRIMARY:
            return True
        cidrs = of_family(self.node_port_addresses, family)
        return bool(cidrs) and not any(cidr.endswith("/0") for cidr in cidrs)

    def node_port_cidrs(self, family: Family) -> list[str]:
        """Where node ports are offered, as far as options say. Loopback addresses never are (KEP-3866)."""
        if self.node_port_addresses == PRIMARY or not self.restricts_node_ports(family):
            return []
        return [cidr for cidr in of_family(self.node_port_addresses, family) if not is_loopback(cidr)]


def click_options() -> tuple[click.Option, ...]:
    return (
        click.Option(
            ["--detect-local-mode", "detect_local_mode"],
            type=click.Choice([mode.value for mode in DetectLocalMode]),
            default=DetectLocalMode.CLUSTER_CIDR.value,
            show_default=True,
            help="How packets of pods are told from others: by --cluster-cidr, by this Node's pod CIDRs, by the "
            "bridge or the names of the interfaces that they come in by. Connections of others to cluster IPs are "
            "masqueraded; pods reach services with externalTrafficPolicy Local from everywhere.",
        ),
        click.Option(
            ["--cluster-cidr", "cluster_cidr"],
            multiple=True,
            metavar="CIDR[,CIDR]",
            help="The pods' addresses, one CIDR of each family. Without it nothing counts as a pod, and no "
            "connection to a cluster IP is masqueraded.",
        ),
        click.Option(
            ["--pod-bridge-interface", "pod_bridge_interface"],
            default="",
            metavar="NAME",
            help="The bridge that the pods' packets come in by (with BridgeInterface).",
        ),
        click.Option(
            ["--pod-interface-name-prefix", "pod_interface_name_prefix"],
            default="",
            metavar="PREFIX",
            help="What the names of the pods' interfaces begin with (with InterfaceNamePrefix).",
        ),
        click.Option(
            ["--masquerade-all", "masquerade_all"],
            is_flag=True,
            help="Masquerade all connections to cluster IPs.",
        ),
        node_port_addresses_option(
            "Offer node ports only at local addresses in these CIDRs, or only at this Node's own addresses as "
            "the cluster knows them (primary). Without it, at all local addresses but loopback."
        ),
        click.Option(
            ["--localhost-nodeports", "localhost_nodeports"],
            is_flag=True,
            help="Also listen for TCP node ports at 127.0.0.1 and ::1, in this process (KEP-6032).",
        ),
        click.Option(
            ["--hook-priority", "hook_priority"],
            type=click.IntRange(-99, 199),
            default=0,
            show_default=True,
            help="Added to the priorities of all hooks (dstnat, srcnat, filter): below 0 comes before "
            "others' rules, above 0 after them.",
        ),
        click.Option(
            ["--dry-run", "dry_run"],
            is_flag=True,
            help="Print the ruleset and each change to it as nft text, and touch nothing. Needs no root.",
        ),
    )


def parse_options(
    *,
    detect_local_mode: str = DetectLocalMode.CLUSTER_CIDR.value,
    cluster_cidr: Sequence[str] = (),
    pod_bridge_interface: str = "",
    pod_interface_name_prefix: str = "",
    masquerade_all: bool = False,
    nodeport_addresses: Sequence[str] = (),
    hook_priority: int = 0,
) -> Options:
    """Options from the values of `click_options`. Raises `UserError`, which names the option."""
    mode = _mode(detect_local_mode)
    interfaces = {
        DetectLocalMode.BRIDGE_INTERFACE: ("--pod-bridge-interface", pod_bridge_interface),
        DetectLocalMode.INTERFACE_NAME_PREFIX: ("--pod-interface-name-prefix", pod_interface_name_prefix),
    }
    of_modes = {DetectLocalMode.CLUSTER_CIDR: ("--cluster-cidr", cluster_cidr), **interfaces}
    for wanted, (option, given) in of_modes.items():
        if given and wanted is not mode:
            log.warning("%s is not heeded: --detect-local-mode is %s", option, mode.value)
    return Options(
        cluster_cidrs=_cluster_cidrs(cluster_cidr),
        masquerade_all=masquerade_all,
        hook_priority=hook_priority,
        detect_local_mode=mode,
        pod_interface=_interface(mode, *interfaces[mode]) if mode in interfaces else "",
        node_port_addresses=node_port_addresses(nodeport_addresses),
    )


def _mode(text: str) -> DetectLocalMode:
    try:
        return DetectLocalMode(text)
    except ValueError:
        known = ", ".join(mode.value for mode in DetectLocalMode)
        raise UserError(f"--detect-local-mode: {text!r} is none of {known}") from None


def _interface(mode: DetectLocalMode, option: str, name: str) -> str:
    if not name:
        raise UserError(f"--detect-local-mode {mode.value} needs {option}")
    if len(name) > _LONGEST_INTERFACE_NAME or not name.isascii() or any(c.isspace() or c in '/:*"\\' for c in name):
        raise UserError(f"{option}: {name!r} cannot be the name of an interface")
    return name


def _cluster_cidrs(given: Sequence[str]) -> tuple[str, ...]:
    parsed = [cidr_of("--cluster-cidr", cidr) for cidr in split(given)]
    if len({family_of(cidr) for cidr in parsed}) != len(parsed):
        raise UserError("--cluster-cidr: at most one CIDR of each family")
    return tuple(parsed)
