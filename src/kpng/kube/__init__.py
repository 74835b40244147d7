"""Kubernetes as a source: list and watch, objects -> model."""

from .access import AccessOptions
from .convert import DEFAULT_NODE_LABELS, Converter, Filters
from .source import KubeOptions, KubeSource

__all__ = ["DEFAULT_NODE_LABELS", "AccessOptions", "Converter", "Filters", "KubeOptions", "KubeSource"]
