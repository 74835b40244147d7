"""kpng, the Kubernetes Proxy NG: a service proxy taken apart into a brain and pluggable backends."""

__version__ = "0.1.0"
