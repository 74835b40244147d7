"""kpng, the Kubernetes Proxy NG: a service proxy taken apart into a brain and pluggable backends.

These names are the library: what a backend, or a program that embeds kpng, is written with. They are imported
from their rooms when first used, so that a program pays only for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpng.backends import Backend, backend_names, load_backend, run_backend
    from kpng.client import watch_local
    from kpng.localize import LocalView, change_sets
    from kpng.model import (
        ChangeSet,
        Endpoint,
        EndpointInfo,
        EndpointPort,
        Family,
        IPSet,
        LocalNode,
        LocalService,
        Node,
        PortMapping,
        Problem,
        ProblemLog,
        Protocol,
        Scopes,
        Service,
        ServiceChange,
        ServiceKey,
        UserError,
    )
    from kpng.server import ApiServer
    from kpng.sources import Source
    from kpng.store import Kind, Snapshot, Store, Transaction

__version__ = "0.1.0"

__all__ = [
    "ApiServer",
    "Backend",
    "ChangeSet",
    "Endpoint",
    "EndpointInfo",
    "EndpointPort",
    "Family",
    "IPSet",
    "Kind",
    "LocalNode",
    "LocalService",
    "LocalView",
    "Node",
    "PortMapping",
    "Problem",
    "ProblemLog",
    "Protocol",
    "Scopes",
    "Service",
    "ServiceChange",
    "ServiceKey",
    "Snapshot",
    "Source",
    "Store",
    "Transaction",
    "UserError",
    "__version__",
    "backend_names",
    "change_sets",
    "load_backend",
    "run_backend",
    "watch_local",
]

_ROOMS = {
    "backends": ("Backend", "backend_names", "load_backend", "run_backend"),
    "client": ("watch_local",),
    "localize": ("LocalView", "change_sets"),
    "server": ("ApiServer",),
    "sources": ("Source",),
    "store": ("Kind", "Snapshot", "Store", "Transaction"),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'kpng' has no attribute {name!r}")
    return getattr(import_module(f"kpng.{_HOME.get(name, 'model')}"), name)


def __dir__() -> list[str]:
    return __all__
