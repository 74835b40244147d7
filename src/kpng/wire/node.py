"""Nodes, as the cluster has them (global) and as they see themselves (local): model <-> protobuf."""

from __future__ import annotations

from kpng.model import ZONE_LABEL, LocalNode, Node, check_name, check_zone, parse_cidr

from .lenient import Faults
from .proto import globalv1_pb2 as globalv1
from .proto import localv1_pb2 as localv1
from .service import addresses_to_wire


def node_to_wire(node: Node) -> globalv1.Node:
    return globalv1.Node(
        Name=node.name,
        Labels=node.labels,
        Annotations=node.annotations,
        Topology=globalv1.TopologyInfo(Node=node.name, Zone=node.zone),
        IPs=addresses_to_wire(node.addresses) if node.addresses else None,
        PodCIDRs=node.pod_cidrs,
        Ineligible=not node.eligible,
    )


def node_from_wire(message: globalv1.Node, faults: Faults) -> Node | None:
    """None where there is no name that can be used."""
    name = _name(message.Name, faults)
    if not name:
        return None
    zone = message.Topology.Zone or message.Labels.get(ZONE_LABEL, "")
    return Node(
        name=name,
        zone=faults.name(check_zone, zone, "topology.zone"),
        addresses=faults.addresses([*message.IPs.V4, *message.IPs.V6], "status.addresses"),
        pod_cidrs=faults.texts(message.PodCIDRs, "spec.podCIDRs", parse_cidr),
        eligible=not message.Ineligible,
        labels=dict(message.Labels),
        annotations=dict(message.Annotations),
    )


def local_node_to_wire(node: LocalNode) -> localv1.Node:
    return localv1.Node(
        Name=node.name,
        IPs=addresses_to_wire(node.addresses),
        PodCIDRs=node.pod_cidrs,
        ServiceCIDRs=node.service_cidrs,
        Eligible=node.eligible,
    )


def local_node_from_wire(message: localv1.Node, faults: Faults) -> LocalNode:
    """Everything in it that can be used."""
    return LocalNode(
        name=_name(message.Name, faults),
        addresses=faults.addresses([*message.IPs.V4, *message.IPs.V6], "status.addresses"),
        pod_cidrs=faults.texts(message.PodCIDRs, "spec.podCIDRs", parse_cidr),
        service_cidrs=faults.texts(message.ServiceCIDRs, "ServiceCIDRs", parse_cidr),
        eligible=message.Eligible,
    )


def _name(text: str, faults: Faults) -> str:
    if not text:
        faults.add("metadata.name", "a node needs a name")
    return faults.name(check_name, text, "metadata.name")
