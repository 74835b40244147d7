"""Nodes: model <-> protobuf."""

from __future__ import annotations

from kpng.model import ZONE_LABEL, Node, check_name, check_zone

from .lenient import Faults
from .proto import globalv1_pb2 as globalv1


def node_to_wire(node: Node) -> globalv1.Node:
    return globalv1.Node(
        Name=node.name,
        Labels=node.labels,
        Annotations=node.annotations,
        Topology=globalv1.TopologyInfo(Node=node.name, Zone=node.zone),
    )


def node_from_wire(message: globalv1.Node, faults: Faults) -> Node | None:
    """None where there is no name that can be used."""
    if not message.Name:
        faults.add("metadata.name", "a node needs a name")
    name = faults.name(check_name, message.Name, "metadata.name")
    if not name:
        return None
    zone = message.Topology.Zone or message.Labels.get(ZONE_LABEL, "")
    zone = faults.name(check_zone, zone, "topology.zone")
    return Node(name=name, zone=zone, labels=dict(message.Labels), annotations=dict(message.Annotations))
