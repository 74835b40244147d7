"""Local detection: which packets are of pods, by rules that depend on how the cluster's network is made."""

from __future__ import annotations

from kpng.model import DetectLocalMode, Family

from . import fields
from .node import NOT_PODS, PODS
from .options import Options
from .ruleset import Rule
from .statements import InputInterface, InSet, Masquerade, Return, SourceIn, Statement


def from_pod(options: Options, family: Family) -> tuple[Statement, ...]:
    """Matches packets of pods where they come in; () where nothing can be told."""
    match options.detect_local_mode:
        case DetectLocalMode.CLUSTER_CIDR:
            cidr = options.cluster_cidr(family)
            return (SourceIn(cidr),) if cidr else ()
        case DetectLocalMode.NODE_CIDR:
            return (InSet((fields.source(family),), PODS),)
        case DetectLocalMode.BRIDGE_INTERFACE:
            return (InputInterface(options.pod_interface),)
        case DetectLocalMode.INTERFACE_NAME_PREFIX:
            return (InputInterface(f"{options.pod_interface}*"),)


def not_of_pod(options: Options, family: Family) -> tuple[Statement, ...]:
    """Matches what this machine sends but from an address of the pods; interfaces tell nothing of that."""
    match options.detect_local_mode:
        case DetectLocalMode.CLUSTER_CIDR:
            cidr = options.cluster_cidr(family)
            return (SourceIn(cidr, inverted=True),) if cidr else ()
        case DetectLocalMode.NODE_CIDR:
            return (InSet((fields.source(family),), PODS, inverted=True),)
        case _:
            return ()


def masquerade_rules(options: Options, family: Family, to_cluster_ip: Statement) -> tuple[Rule, ...]:
    """Masquerade what goes to cluster IPs and is not of a pod. What has no input interface is the node's own."""
    match options.detect_local_mode:
        case DetectLocalMode.CLUSTER_CIDR:
            outside = not_of_pod(options, family)
            return (Rule((*outside, to_cluster_ip, Masquerade())),) if outside else ()
        case DetectLocalMode.NODE_CIDR:
            return (Rule((InSet((fields.source(family),), NOT_PODS), to_cluster_ip, Masquerade())),)
        case _:
            return (
                Rule((*from_pod(options, family), to_cluster_ip, Return())),
                Rule((to_cluster_ip, Masquerade())),
            )
