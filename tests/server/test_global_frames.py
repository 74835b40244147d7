"""A round of global state, as bytes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from kpng.model import EndpointInfo, EndpointPort, IPSet, Node, PortMapping, Protocol, Service, ServiceKey
from kpng.server.global_frames import node_frames, record_change, record_frames, round_buffers
from kpng.store import Kind, ServiceRecord, Snapshot, Store
from kpng.wire.grpc import MessageReader
from kpng.wire.paths import GlobalPath
from kpng.wire.proto import globalv1_pb2 as globalv1
from kpng.wire.proto import localv1_pb2 as localv1

KEY = ServiceKey("demo", "web")
WEB = Service(namespace="demo", name="web", ports=(PortMapping(port=80),))
POD = EndpointInfo(
    addresses=IPSet(("10.1.0.1",)), ports=(EndpointPort("", 8080),), pod_name="pod-a", node="n1", zone="za"
)


def a_record(*endpoints: EndpointInfo, service: Service | None = WEB) -> ServiceRecord:
    return ServiceRecord(KEY, service, {"web-abc": endpoints})


def decoded(buffers: Iterable[bytes]) -> list[localv1.OpItem]:
    return [localv1.OpItem.FromString(message) for message in MessageReader().feed(b"".join(buffers))]


def spelled(buffers: Iterable[bytes]) -> list[str]:
    """Each op as a sign, its set's number and its path, with hashes left out."""
    lines = []
    for op in decoded(buffers):
        ref = op.Set.Ref if op.WhichOneof("Op") == "Set" else op.Delete
        path = GlobalPath.parse(ref.Path)
        assert path is not None
        lines.append(
            f"{'+' if op.WhichOneof('Op') == 'Set' else '-'}{ref.Set} {path._replace(key='#' * bool(path.key))}"
        )
    return lines


def differences(old: Snapshot, new: Snapshot, store: Store) -> list[bytes]:
    records = [
        record_change(key, old.services.get(key), new.services.get(key)) for key in new.changed_services(old)
    ]
    return list(round_buffers({name: new.nodes.get(name) for name in new.changed_nodes(old)}, records))


def test_a_round_sets_what_others_refer_to_first_and_deletes_it_last() -> None:
    store = Store()
    empty = store.snapshot
    with store.transaction() as transaction:
        transaction.set_service(WEB)
        transaction.set_service(replace(WEB, name="api"))
        transaction.set_source("web-abc", KEY, [POD])
        transaction.set_source("api-abc", ServiceKey("demo", "api"), [POD])
        transaction.set_node(Node(name="n2"))
        transaction.set_node(Node(name="n1"))
    full = store.snapshot
    assert spelled(differences(empty, full, store)) == [
        "+12 |n1||",
        "+12 |n2||",
        "+10 demo|api||",
        "+10 demo|web||",
        "+11 demo|api|api-abc|#",
        "+11 demo||api-abc|#",
        "+11 demo|web|web-abc|#",
        "+11 demo||web-abc|#",
    ]
    with store.transaction() as transaction:
        transaction.replace(*Kind)
    assert spelled(differences(full, store.snapshot, store)) == [
        "-11 demo||web-abc|#",
        "-11 demo|web|web-abc|#",
        "-11 demo||api-abc|#",
        "-11 demo|api|api-abc|#",
        "-10 demo|web||",
        "-10 demo|api||",
        "-12 |n2||",
        "-12 |n1||",
    ]


def test_an_endpoint_message_says_whose_it_is() -> None:
    change = record_change(KEY, None, a_record(POD))
    first, second = decoded(change.endpoint_sets)
    info = globalv1.EndpointInfo.FromString(first.Set.Bytes)
    assert (info.Namespace, info.ServiceName, info.SourceName) == ("demo", "web", "web-abc")
    assert first.Set.Bytes == second.Set.Bytes
    path = GlobalPath.parse(first.Set.Ref.Path)
    assert path is not None
    assert int(path.key, 16) == info.Hash


CHANGES = [
    {"addresses": IPSet(("10.1.0.2",))},
    {"addresses": IPSet(("10.1.0.1",), ("fd00::1",))},
    {"ports": (EndpointPort("", 8081),)},
    {"ports": (EndpointPort("", 8080, Protocol.UDP),)},
    {"ports": ()},
    {"hostname": "web-0"},
    {"pod_name": "pod-b"},
    {"node": "n2"},
    {"zone": "zb"},
    {"ready": False},
    {"serving": False},
    {"terminating": True},
    {"zone_hints": ("za",)},
    {"node_hints": ("n1",)},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_every_change_of_an_endpoint_gives_it_another_path(change: dict[str, object]) -> None:
    """The Go kpng's hash left out hints and pod name, so that their changes were lost."""
    before = a_record(POD)
    difference = record_change(KEY, before, a_record(replace(POD, **change)))
    (came, _), (_, went) = decoded(difference.endpoint_sets), decoded(difference.endpoint_deletes)
    assert came.Set.Ref.Path != went.Delete.Path
    assert difference.service_set == difference.service_delete == b""


def test_all_fields_of_an_endpoint_are_in_the_table_above() -> None:
    assert {name for change in CHANGES for name in change} == set(EndpointInfo.__struct_fields__)


def test_what_did_not_change_is_not_sent_and_not_encoded_again() -> None:
    stays, goes, comes = POD, replace(POD, pod_name="goes"), replace(POD, pod_name="comes")
    before, after = a_record(stays, goes), a_record(stays, comes)
    first = record_frames(before, None)
    difference = record_change(KEY, before, after)
    assert len(decoded(difference.endpoint_sets)) == len(decoded(difference.endpoint_deletes)) == 2
    second = record_frames(after, None)
    assert second.endpoints["web-abc", stays] is first.endpoints["web-abc", stays]
    assert record_frames(after, None) is second


def test_two_equal_endpoints_of_a_source_are_one() -> None:
    assert len(decoded(record_change(KEY, None, a_record(POD, POD)).endpoint_sets)) == 2


def test_endpoints_of_an_unknown_service_are_sent_without_it() -> None:
    orphan = a_record(POD, service=None)
    assert record_change(KEY, None, orphan).service_set == b""
    adopted = record_change(KEY, orphan, a_record(POD))
    assert adopted.service_set
    assert adopted.endpoint_sets == []
    left = record_change(KEY, a_record(POD), orphan)
    assert spelled([left.service_delete]) == ["-10 demo|web||"]
    assert left.endpoint_deletes == []


def test_a_changed_service_is_set_with_another_hash() -> None:
    local = replace(WEB, external_traffic_local=True)
    difference = record_change(KEY, a_record(POD), a_record(POD, service=local))
    (op,) = decoded([difference.service_set])
    (before,) = decoded([record_frames(a_record(), None).service])
    assert op.Set.Ref.Path == before.Set.Ref.Path
    old, new = (globalv1.ServiceInfo.FromString(each.Set.Bytes) for each in (before, op))
    assert old.Hash != new.Hash
    assert new.Service.ExternalTrafficToLocal


def test_nodes() -> None:
    node = Node(name="n1", zone="za", labels={"a": "b"})
    (op,) = decoded([node_frames("n1", node)])
    info = globalv1.NodeInfo.FromString(op.Set.Bytes)
    assert (info.Node.Name, info.Node.Topology.Zone, dict(info.Node.Labels)) == ("n1", "za", {"a": "b"})
    (other,) = decoded([node_frames("n1", replace(node, zone="zb"))])
    assert globalv1.NodeInfo.FromString(other.Set.Bytes).Hash != info.Hash
    assert spelled([node_frames("n1", None)]) == ["-12 |n1||"]
