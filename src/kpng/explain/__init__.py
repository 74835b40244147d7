"""What becomes of a packet, and why: the rules of Services held against one node's state.

Written from the rules (docs/semantics.md), not from what any backend programs, so that it can bear witness against
one. Nothing here does I/O: `explain` takes a `NodeState` and a `Packet`.
"""

from .document import document
from .evaluate import explain
from .explanation import Explanation, LeftOut, Target, Verdict
from .frontends import Frontend, FrontendKind
from .packet import Packet, parse_packet
from .settings import Settings
from .state import ClusterState, NodeState
from .text import text

__all__ = [
    "ClusterState",
    "Explanation",
    "Frontend",
    "FrontendKind",
    "LeftOut",
    "NodeState",
    "Packet",
    "Settings",
    "Target",
    "Verdict",
    "document",
    "explain",
    "parse_packet",
    "text",
]
