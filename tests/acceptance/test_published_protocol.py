"""Acceptance 2: `kpng file -i … to-api` serves a Go-compatible stream.

The client is made from the published .proto alone (generated stubs on grpcio), not of our client library.
"""

from __future__ import annotations

import queue
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import yaml

from kpng.wire.proto import localv1_pb2 as localv1

EXAMPLE = Path(__file__).parents[2] / "examples" / "state.yaml"
NODE = "node-a"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state.yaml"
    shutil.copy(EXAMPLE, path)
    return path


@pytest.fixture
def address(state: Path, tmp_path: Path) -> Iterator[str]:
    socket = tmp_path / "kpng.sock"
    command = [sys.executable, "-m", "kpng", "file", "-i", str(state), "to-api", "--listen", f"unix://{socket}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "serving on" in line:
                    break
            yield f"unix://{socket}"
        finally:
            process.terminate()
            process.communicate(timeout=20)


class Watcher:
    """Asks for a round, and reads its operations up to Sync."""

    def __init__(self, address: str) -> None:
        self._requests: queue.Queue[localv1.WatchReq | None] = queue.Queue()
        self._channel = grpc.insecure_channel(address)
        watch = self._channel.stream_stream(
            "/localv1.Sets/Watch",
            request_serializer=localv1.WatchReq.SerializeToString,
            response_deserializer=localv1.OpItem.FromString,
        )
        self._answers = watch(iter(self._requests.get, None), timeout=30)

    def round(self) -> list[localv1.OpItem]:
        self._requests.put(localv1.WatchReq(NodeName=NODE))
        ops = []
        for op in self._answers:
            ops.append(op)
            if op.WhichOneof("Op") == "Sync":
                return ops
        raise AssertionError("the stream ended before Sync")

    def close(self) -> None:
        self._requests.put(None)
        self._answers.cancel()
        self._channel.close()


@pytest.fixture
def watcher(address: str) -> Iterator[Watcher]:
    watching = Watcher(address)
    yield watching
    watching.close()


def kinds(ops: list[localv1.OpItem]) -> list[str | None]:
    return [op.WhichOneof("Op") for op in ops]


def sets(ops: list[localv1.OpItem], kind: int) -> dict[str, bytes]:
    return {op.Set.Ref.Path: op.Set.Bytes for op in ops if op.WhichOneof("Op") == "Set" and op.Set.Ref.Set == kind}


def deletes(ops: list[localv1.OpItem]) -> set[tuple[int, str]]:
    return {(op.Delete.Set, op.Delete.Path) for op in ops if op.WhichOneof("Op") == "Delete"}


def test_three_rounds_full_change_delete(state: Path, watcher: Watcher) -> None:
    document = yaml.safe_load(state.read_text())
    names = {f"{entry['service']['namespace']}/{entry['service']['name']}" for entry in document["services"]}

    first = watcher.round()
    assert kinds(first)[0] == "Reset"
    assert kinds(first)[-1] == "Sync"
    assert set(kinds(first)[1:-1]) == {"Set"}
    assert set(sets(first, localv1.ServicesSet)) == names
    endpoints = sets(first, localv1.EndpointsSet)
    assert endpoints
    assert {path.rsplit("/", 1)[0] for path in endpoints} <= names
    assert all(localv1.Endpoint.FromString(raw).IPs.V4 for raw in endpoints.values())

    changed = document["services"][0]
    changed["service"]["ports"][0]["nodeport"] = 30999
    state.write_text(yaml.safe_dump(document))
    path = f"{changed['service']['namespace']}/{changed['service']['name']}"
    second = watcher.round()
    assert kinds(second) == ["Set", "Sync"]
    service = localv1.Service.FromString(sets(second, localv1.ServicesSet)[path])
    assert service.Ports[0].NodePort == 30999

    del document["services"][0]
    state.write_text(yaml.safe_dump(document))
    third = watcher.round()
    assert set(kinds(third)[:-1]) == {"Delete"}
    assert kinds(third)[-1] == "Sync"
    own = {(localv1.EndpointsSet, key) for key in endpoints if key.startswith(path + "/")}
    assert deletes(third) == own | {(localv1.ServicesSet, path)}
    assert third[-2].Delete.Set == localv1.ServicesSet, "a service outlives its endpoints"
