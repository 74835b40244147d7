"""The gRPC side of kpng that serves."""

from .service import ApiServer

__all__ = ["ApiServer"]
