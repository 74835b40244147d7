"""Sources: what fills the store. Files, manifests, another kpng; Kubernetes itself is `kpng.kube`."""

from .contract import Source

__all__ = ["Source"]
