"""A cluster in network namespaces, for the demo and for tests. Not for production."""
