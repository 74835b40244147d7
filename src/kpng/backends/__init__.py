"""Backends: what makes local state real. The contract, discovery, the runtime; one folder a backend."""

from .contract import Backend
from .discovery import backend_names, load_backend
from .document import LocalState
from .runtime import run_backend

__all__ = ["Backend", "LocalState", "backend_names", "load_backend", "run_backend"]
