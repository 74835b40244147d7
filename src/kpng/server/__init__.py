"""The gRPC side of kpng that serves."""
