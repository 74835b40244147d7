"""The protocol to the byte: numbers, paths and framed ops, as the Go kpng has them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import example, given
from hypothesis import strategies as st

from kpng.model import ServiceKey, is_name
from kpng.wire import ops, paths
from kpng.wire.paths import GlobalPath
from kpng.wire.proto import globalv1_pb2 as globalv1
from kpng.wire.proto import localv1_pb2 as localv1

ROOT = Path(__file__).parents[2]

# Message, then fields by number; * is repeated. The numbers after a bar are this kpng's own.
NUMBERS = """
localv1.WatchReq: NodeName=1
localv1.OpItem: Sync=1 Set=2 Delete=3 Reset=4
localv1.Ref: Set=1 Path=2
localv1.Value: Ref=1 Bytes=2
localv1.IPSet: V4=1* V6=2*
localv1.Service: Namespace=1 Name=2 Type=3 IPs=4 MapIP=5 Ports=6* ExternalTrafficToLocal=7 Labels=8* \
Annotations=9* IPFilters=10* ClientIP=11 InternalTrafficToLocal=12 HealthCheckNodePort=13
localv1.ServiceIPs: ClusterIPs=1 ExternalIPs=2 Headless=3 LoadBalancerIPs=4
localv1.IPFilter: TargetIPs=1 SourceRanges=2*
localv1.ClientIPAffinity: TimeoutSeconds=1
localv1.PortMapping: Name=1 Protocol=2 Port=3 NodePort=4 TargetPort=5 TargetPortName=6 Available=7
localv1.Endpoint: Hostname=1 IPs=2 Local=3 PortOverrides=4* Scopes=5 Terminating=6
localv1.PortName: Name=1 Port=2 Protocol=3
localv1.EndpointScopes: Internal=1 External=2 ShortCircuit=3
localv1.Node: Name=1 IPs=2 PodCIDRs=3* ServiceCIDRs=4* Eligible=5
globalv1.ServiceInfo: Hash=1 Service=2
globalv1.EndpointInfo: Hash=1 Namespace=2 SourceName=3 ServiceName=4 Endpoint=6 Conditions=7 PodName=8 \
Topology=9 Hints=10
globalv1.EndpointConditions: Ready=1 Serving=2 Terminating=3
globalv1.TopologyInfo: Node=1 Zone=2
globalv1.EndpointHints: Zones=1* Nodes=2*
globalv1.NodeInfo: Hash=1 Node=2
globalv1.Node: Name=1 Labels=2* Annotations=3* Topology=4 IPs=5 PodCIDRs=6* Ineligible=7
globalv1.ServiceCIDR: CIDRs=1*
globalv1.GlobalWatchReq: Sets=1*
"""

FILES = {"localv1": localv1.DESCRIPTOR, "globalv1": globalv1.DESCRIPTOR}


def spell(field: FieldDescriptor) -> str:
    return f"{field.name}={field.number}{'*' if field.is_repeated else ''}"


@pytest.mark.parametrize("line", NUMBERS.strip().splitlines())
def test_fields_have_their_numbers(line: str) -> None:
    name, _, fields = line.partition(": ")
    package, _, message = name.partition(".")
    descriptor: Descriptor = FILES[package].message_types_by_name[message]
    assert " ".join(map(spell, descriptor.fields)) == fields


def test_enums_have_their_numbers() -> None:
    assert dict(localv1.Set.items()) == {
        "UnknownSet": 0,
        "ServicesSet": 1,
        "EndpointsSet": 2,
        "NodesSet": 3,
        "GlobalServiceInfos": 10,
        "GlobalEndpointInfos": 11,
        "GlobalNodeInfos": 12,
        "GlobalServiceCIDRs": 13,
    }
    assert dict(localv1.Protocol.items()) == {"UnknownProtocol": 0, "TCP": 1, "UDP": 2, "SCTP": 3}


def test_methods_have_their_paths() -> None:
    for package, path in (("localv1", ops.LOCAL_WATCH), ("globalv1", ops.GLOBAL_WATCH)):
        service = FILES[package].services_by_name["Sets"]
        assert path == f"/{service.full_name}/{service.methods[0].name}"


def test_absence_of_new_conditions_can_be_told() -> None:
    fields = globalv1.EndpointConditions.DESCRIPTOR.fields_by_name
    assert not fields["Ready"].has_presence
    assert fields["Serving"].has_presence
    assert fields["Terminating"].has_presence


def test_stubs_are_what_the_proto_files_generate(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "generate-proto.sh"
    done = subprocess.run(
        [str(script), str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    generated = sorted((tmp_path / "kpng/wire/proto").iterdir())
    assert len(generated) == 4
    for path in generated:
        assert path.read_text() == (ROOT / "src/kpng/wire/proto" / path.name).read_text()


def test_framed_ops_to_the_byte() -> None:
    assert ops.SYNC == b"\x00\x00\x00\x00\x02\x0a\x00"
    assert ops.RESET == b"\x00\x00\x00\x00\x02\x22\x00"
    assert ops.set_op(localv1.ServicesSet, "a/b", b"xy") == (
        b"\x00\x00\x00\x00\x0f\x12\x0d\x0a\x07\x08\x01\x12\x03a/b\x12\x02xy"
    )
    assert ops.delete_op(localv1.EndpointsSet, "a/b/c") == (b"\x00\x00\x00\x00\x0b\x1a\x09\x08\x02\x12\x05a/b/c")


def test_local_paths() -> None:
    key = ServiceKey("demo", "web")
    assert paths.local_service_path(key) == "demo/web"
    assert paths.local_endpoint_path(key, "pod-a:ipv6") == "demo/web/pod-a:ipv6"
    assert paths.parse_local_service("demo/web") == key
    assert paths.parse_local_endpoint("demo/web/pod-a:ipv6") == (key, "pod-a:ipv6")


@pytest.mark.parametrize("path", ["", "web", "/web", "demo/", "demo/web/x"])
def test_no_local_service_paths(path: str) -> None:
    assert paths.parse_local_service(path) is None


@pytest.mark.parametrize("path", ["", "demo/web", "demo/web/", "/web/x", "demo//x"])
def test_no_local_endpoint_paths(path: str) -> None:
    assert paths.parse_local_endpoint(path) is None


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (GlobalPath("", "n1"), "|n1||"),
        (GlobalPath("demo", "web"), "demo|web||"),
        (GlobalPath("demo", "web", "web-abc", "93c4cb21257f17bf"), "demo|web|web-abc|93c4cb21257f17bf"),
        (GlobalPath("demo", "", "web-abc", "93c4cb21257f17bf"), "demo||web-abc|93c4cb21257f17bf"),
    ],
)
def test_global_paths(path: GlobalPath, text: str) -> None:
    assert str(path) == text
    assert GlobalPath.parse(text) == path


@pytest.mark.parametrize("text", ["", "n1", "demo|web", "a|b|c|d|e"])
def test_no_global_paths(text: str) -> None:
    assert GlobalPath.parse(text) is None


path_parts = st.one_of(st.just(""), st.from_regex(r"[a-z0-9.-]{1,4}", fullmatch=True), st.text(max_size=3))


@given(st.lists(path_parts, min_size=3, max_size=5))
@example(["a" * 253, "b", "", ""])
@example(["a" * 254, "b", "", ""])
@example(["a", "b-", "", ""])
@example(["a", "b", "", "c\n"])
def test_a_global_path_is_four_names_or_nothing(parts: list[str]) -> None:
    text = "|".join(parts)
    found = text.split("|")
    good = len(found) == 4 and all(not part or is_name(part) for part in found)
    assert GlobalPath.parse(text) == (GlobalPath(*found) if good else None)
