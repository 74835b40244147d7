#!/bin/sh
# Regenerate the protobuf stubs (committed) from the .proto files: scripts/generate-proto.sh [OUTPUT_DIRECTORY]
# Needs the development dependencies; PYTHON names their interpreter.
set -eu
cd "$(dirname "$0")/.."
output=${1:-src}
python=${PYTHON:-.venv/bin/python}
tools=$(dirname "$(command -v "$python")")
PATH="$tools:$PATH" "$python" -m grpc_tools.protoc --proto_path=src \
    --python_out="$output" --mypy_out=quiet:"$output" \
    kpng/wire/proto/localv1.proto kpng/wire/proto/globalv1.proto
