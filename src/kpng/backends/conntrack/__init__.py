"""Keeps connection tracking true to the services: UDP flows that point at what no longer serves are removed.

UDP has no connection that would end: as long as a client sends, its flow goes where its first packet went, also
when nobody is there any more. For any backend that translates addresses with the kernel's connection tracking.
"""

from .planner import Plan, Planner
from .reconciler import ConntrackReconciler, node_addresses

__all__ = ["ConntrackReconciler", "Plan", "Planner", "node_addresses"]
