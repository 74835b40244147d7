"""The forms objects go out in: Accept headers, tables, metadata."""

from __future__ import annotations

from typing import Any

import pytest

from kpng.lab.apiserver import ApiServer
from kpng.lab.apiserver.columns import COLUMNS, age, human_duration
from kpng.lab.apiserver.registry import KINDS, NODE, POD, SERVICE

PATH = "/api/v1/namespaces/default/services"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "ServiceList"),
        ("*/*", "ServiceList"),
        ("application/json", "ServiceList"),
        (f"{TABLE},application/json", "Table"),
        (f"application/vnd.kubernetes.protobuf,{TABLE}", "Table"),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", "ServiceList"),
        (f"{METADATA_LIST}", "PartialObjectMetadataList"),
        (f"{TABLE};q=0.5,application/json;q=0.9", "ServiceList"),
        ("text/html, */*", "ServiceList"),
        ("application/vnd.kubernetes.protobuf", "Status"),
        ("text/html", "Status"),
    ],
)
async def test_accept(api: Any, accept: str, kind: str) -> None:
    code, answer = await api("GET", PATH, Accept=accept)
    assert (code, answer["kind"]) == (406 if kind == "Status" else 200, kind)


@pytest.mark.parametrize("include", ["", "Metadata", "Object", "None"])
async def test_a_table_carries_as_much_as_was_asked_for(
    api: Any, server: ApiServer, service: Any, include: str
) -> None:
    server.load([service()])
    _, table = await api("GET", f"{PATH}?includeObject={include}", Accept=TABLE)
    assert table["columnDefinitions"][0] == {
        "name": "Name",
        "type": "string",
        "format": "name",
        "description": "",
        "priority": 0,
    }
    (row,) = table["rows"]
    assert row["cells"][:2] == ["web", "ClusterIP"]
    expected = {"Object": "Service", "None": None}.get(include, "PartialObjectMetadata")
    assert row.get("object", {}).get("kind") == expected


async def test_a_watched_table_has_its_header_once(api: Any, server: ApiServer, service: Any) -> None:
    server.load([service("a"), service("b")])
    first, second = await api.events(f"{PATH}?watch=1", 2, Accept=TABLE)
    assert (first["object"]["kind"], len(first["object"]["columnDefinitions"])) == ("Table", 7)
    assert second["object"]["columnDefinitions"] is None
    assert second["object"]["rows"][0]["object"]["metadata"]["name"] == "b"


async def test_metadata_only(api: Any, server: ApiServer, service: Any) -> None:
    server.load([service()])
    _, one = await api("GET", f"{PATH}/web", Accept=METADATA)
    assert (one["kind"], one["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1")
    assert "spec" not in one
    _, many = await api("GET", PATH, Accept=METADATA_LIST)
    assert many["items"] == [one]
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1"
    added, mark = await api.events(f"{PATH}?{query}", 2, Accept=METADATA)
    assert (added["object"], mark["object"]["kind"]) == (one, "PartialObjectMetadata")


def cells(kind: Any, thing: dict[str, Any]) -> dict[str, Any]:
    return {column.name: column.cell(thing) for column in COLUMNS[kind]}


def test_empty_objects_can_be_shown() -> None:
    for kind in KINDS:
        thing = {"metadata": {"name": "x"}, "spec": {}}
        assert all(isinstance(cell, str | int) for cell in cells(kind, thing).values())


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        ({"type": "ClusterIP"}, {}, "<none>"),
        ({"type": "ClusterIP", "externalIPs": ["192.0.2.1", "192.0.2.2"]}, {}, "192.0.2.1,192.0.2.2"),
        ({"type": "LoadBalancer"}, {}, "<pending>"),
        ({"type": "LoadBalancer"}, {"loadBalancer": {"ingress": [{"ip": "a"}, {"hostname": "b"}]}}, "a,b"),
        ({"type": "ExternalName", "externalName": "example.com"}, {}, "example.com"),
    ],
)
def test_external_addresses(spec: Any, status: Any, expected: str) -> None:
    assert cells(SERVICE, {"metadata": {}, "spec": spec, "status": status})["External-IP"] == expected


def test_node_and_pod_cells() -> None:
    node = {
        "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "", "x": ""}},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "False"}],
            "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "192.0.2.1"}],
        },
    }
    shown = cells(NODE, node)
    assert (shown["Status"], shown["Roles"]) == ("NotReady,SchedulingDisabled", "control-plane")
    assert (shown["Internal-IP"], shown["External-IP"]) == ("192.0.2.1", "<none>")
    statuses = [{"ready": True, "restartCount": 2}, {"ready": False, "restartCount": 1}]
    pod = {"spec": {"containers": [{}, {}]}, "status": {"phase": "Running", "containerStatuses": statuses}}
    shown = cells(POD, pod | {"metadata": {"name": "p"}})
    assert (shown["Ready"], shown["Status"], shown["Restarts"]) == ("1/2", "Running", 3)
    assert cells(POD, pod | {"metadata": {"deletionTimestamp": "x"}})["Status"] == "Terminating"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (185, "3m5s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (11 * 1020, "3h7m"),
        (8 * 3600 + 60, "8h"),
        (172799, "47h"),
        (172800, "2d"),
        (183600, "2d3h"),
        (8 * 86400 + 3600, "8d"),
        (729 * 86400, "729d"),
        (731 * 86400, "2y1d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_durations_as_kubectl_writes_them(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


def test_no_stamp_no_age() -> None:
    assert age(None) == "<unknown>"
    assert age("2020-01-01T00:00:00Z").endswith(("d", "y"))
