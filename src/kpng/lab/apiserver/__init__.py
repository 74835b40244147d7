"""An embedded Kubernetes API server for tests and demos. Not for production: no disk, no access control."""

from kpng.lab.apiserver.errors import ApiError
from kpng.lab.apiserver.server import ApiServer

__all__ = ["ApiError", "ApiServer"]
