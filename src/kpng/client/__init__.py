"""The gRPC side of kpng that watches another kpng."""
