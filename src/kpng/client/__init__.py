"""The gRPC side of kpng that watches another kpng."""

from .global_ import GlobalRound, watch_global
from .local import watch_local

__all__ = ["GlobalRound", "watch_global", "watch_local"]
