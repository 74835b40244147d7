"""The gRPC side of kpng that watches another kpng."""

from .global_ import GlobalRound, ask_global, watch_global
from .local import ask_local, watch_local

__all__ = ["GlobalRound", "ask_global", "ask_local", "watch_global", "watch_local"]
