"""Settings that say something of one IP family only, on a Node that has both or just the other (semantics J5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kpng.model import FAMILIES, Family, IPSet, family_of

from .types import KubeProxyConfiguration


def family_warnings(config: KubeProxyConfiguration, node: IPSet) -> Iterator[str]:
    """What the settings leave out of the families in which the Node has addresses."""
    here = [family for family in FAMILIES if node.family(family)]
    if config.detect_local_mode in ("", "ClusterCIDR") and config.cluster_cidr:
        for family in _missing(config.cluster_cidr.split(","), here):
            yield f"clusterCIDR has no CIDR of IPv{family.value}: in that family nothing counts as a pod"
    cidrs = [cidr for cidr in config.node_port_addresses if "/" in cidr]
    if cidrs:
        for family in _missing(cidrs, here):
            yield f"nodePortAddresses has no CIDR of IPv{family.value}: node ports are offered at all its addresses"


def _missing(cidrs: Sequence[str], families: Sequence[Family]) -> list[Family]:
    given = {family_of(cidr) for cidr in cidrs}
    return [family for family in families if family not in given]
