"""Nodes and ServiceCIDRs: objects -> model."""

from __future__ import annotations

from collections.abc import Iterator

from kpng.kube.objects import Node as KubeNode
from kpng.kube.objects import ServiceCIDR
from kpng.model import FAMILIES, ZONE_LABEL, IPSet, Node, family_of, parse_address, parse_cidr

from .common import Faults, shared_zone

_ZONE_FIELD = f"metadata.labels[{ZONE_LABEL}]"
_DELETION_TAINT = "ToBeDeletedByClusterAutoscaler"


def node_fields(kube: KubeNode, faults: Faults) -> Node:
    """A Node without labels and annotations, which the user's filters choose."""
    metadata = kube.metadata
    return Node(
        name=metadata.name or "",
        zone=faults.name(shared_zone, (metadata.labels or {}).get(ZONE_LABEL), _ZONE_FIELD),
        addresses=_addresses(kube, faults),
        pod_cidrs=tuple(_pod_cidrs(kube, faults)),
        eligible=metadata.deletion_timestamp is None and not _is_to_be_deleted(kube),
    )


def service_cidrs(kube: ServiceCIDR, faults: Faults) -> tuple[str, ...]:
    """The CIDRs that can be used."""
    given = kube.spec.cidrs if kube.spec else None
    parsed = (faults.check(parse_cidr, text, "spec.cidrs[{}]", n) for n, text in enumerate(given or ()))
    return tuple(cidr for cidr in parsed if cidr)


def _addresses(kube: KubeNode, faults: Faults) -> IPSet:
    """One of each family: the first InternalIP, else the first ExternalIP (as kubelet and kube-proxy choose)."""
    found: dict[str, list[str]] = {"InternalIP": [], "ExternalIP": []}
    given = kube.status.addresses if kube.status else None
    for number, entry in enumerate(given or ()):
        if entry.type in found and entry.address:
            address = faults.check(parse_address, entry.address, "status.addresses[{}].address", number)
            found[entry.type] += [address] if address else []
    ranked = [*found["InternalIP"], *found["ExternalIP"]]
    firsts = (next((a for a in ranked if family_of(a) is family), None) for family in FAMILIES)
    return IPSet.of(address for address in firsts if address)


def _pod_cidrs(kube: KubeNode, faults: Faults) -> Iterator[str]:
    if kube.spec is None:
        return
    given = kube.spec.pod_cidrs or ([kube.spec.pod_cidr] if kube.spec.pod_cidr else [])
    for number, text in enumerate(given):
        cidr = faults.check(parse_cidr, text, "spec.podCIDRs[{}]", number)
        if cidr:
            yield cidr


def _is_to_be_deleted(kube: KubeNode) -> bool:
    """KEP-3836: the autoscaler is about to remove it, so load balancers should go elsewhere."""
    taints = kube.spec.taints if kube.spec else None
    return any(taint.key == _DELETION_TAINT for taint in taints or ())
