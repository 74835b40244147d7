"""The .proto files and the stubs that scripts/generate-proto.sh makes of them (committed)."""
