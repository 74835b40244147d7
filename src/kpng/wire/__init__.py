"""What goes over the network: kpng's messages and their conversion, and gRPC over HTTP/2."""
