"""Connection tracking: list flows and remove them, over netlink."""

from .connection import Conntrack, ConntrackUnavailableError
from .messages import UDP, Flow, Query, socket_address

__all__ = ["UDP", "Conntrack", "ConntrackUnavailableError", "Flow", "Query", "socket_address"]
