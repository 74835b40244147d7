"""Kubernetes objects -> kpng's model. Pure; a bad part is left out and told, never raised."""

from .converter import Converter, Outcome
from .filters import DEFAULT_NODE_LABELS, Filters
from .slices import NamedSource

__all__ = ["DEFAULT_NODE_LABELS", "Converter", "Filters", "NamedSource", "Outcome"]
