"""From global to local: endpoint choice, answers shared between nodes, change sets."""

from .answers import localize
from .choice import Choice, choose
from .view import LocalView, change_sets

__all__ = ["Choice", "LocalView", "change_sets", "choose", "localize"]
