"""From global to local: endpoint choice, answers shared between nodes, change sets."""

from .answers import localize
from .audit import Auditor
from .choice import Choice, choose
from .view import LocalView, change_sets

__all__ = ["Auditor", "Choice", "LocalView", "change_sets", "choose", "localize"]
