"""Tables as `kubectl get -o wide` prints them, for every kind."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

import pytest
import yaml

from kpng.lab.apiserver import ApiServer
from kpng.lab.apiserver.registry import KINDS

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"

MANIFESTS = dedent("""
    apiVersion: v1
    kind: Service
    metadata: {name: headless}
    spec: {clusterIP: None, selector: {b: "2", a: "1"}, ports: [{port: 80}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: outside}
    spec: {type: ExternalName, externalName: example.com}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: pending}
    spec: {type: LoadBalancer, clusterIP: 10.96.0.3, ports: [{port: 80, nodePort: 30080}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: plain}
    spec:
      clusterIP: 10.96.0.1
      selector: {app: web}
      ports: [{name: a, port: 80}, {name: b, port: 53, protocol: UDP}]
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: served}
    spec:
      type: LoadBalancer
      clusterIP: 10.96.0.4
      externalIPs: [203.0.113.7]
      ports: [{port: 80, nodePort: 30081}]
    status: {loadBalancer: {ingress: [{ip: 203.0.113.5}, {hostname: lb.example}]}}
    ---
    apiVersion: discovery.k8s.io/v1
    kind: EndpointSlice
    metadata: {name: empty}
    addressType: IPv4
    ---
    apiVersion: discovery.k8s.io/v1
    kind: EndpointSlice
    metadata: {name: few}
    addressType: IPv6
    endpoints: [{addresses: ["2001:db8::1"]}, {addresses: ["2001:db8::2"]}]
    ports: [{name: http, port: 8080}, {name: any}]
    ---
    apiVersion: discovery.k8s.io/v1
    kind: EndpointSlice
    metadata: {name: many}
    addressType: IPv4
    endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}, {addresses: [10.0.0.3]}, {addresses: [10.0.0.4]},
                {addresses: [10.0.0.5]}]
    ports: [{name: a, port: 1}, {name: b, port: 2}, {name: c, port: 3}, {name: d, port: 4}]
    ---
    apiVersion: v1
    kind: Node
    metadata: {name: bare}
    ---
    apiVersion: v1
    kind: Node
    metadata: {name: full, labels: {node-role.kubernetes.io/worker: "", node-role.kubernetes.io/edge: ""}}
    spec: {unschedulable: true}
    status:
      conditions: [{type: MemoryPressure, status: "False"}, {type: Ready, status: "True"}]
      addresses: [{type: InternalIP, address: 192.0.2.1}, {type: ExternalIP, address: 203.0.113.1}]
      nodeInfo: {kubeletVersion: v1.37.0, osImage: Linux, kernelVersion: "6.18", containerRuntimeVersion: c://1}
    ---
    apiVersion: v1
    kind: Node
    metadata: {name: sick}
    status: {conditions: [{type: Ready, status: "False"}]}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: new}
    spec: {containers: [{name: a, image: a}, {name: b, image: b}]}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: old}
    spec: {nodeName: full, containers: [{name: a, image: a}]}
    status:
      phase: Running
      podIP: 10.1.0.1
      containerStatuses: [{name: a, ready: true, restartCount: 3}]
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: thrown-out}
    spec: {containers: [{name: a, image: a}]}
    status: {phase: Failed, reason: Evicted}
""")

EXPECTED = {
    "/api/v1/services": """
        Name     | Type         | Cluster-IP | External-IP                        | Port(s)       | Age | Selector
        headless | ClusterIP    | None       | <none>                             | 80/TCP        | AGE | a=1,b=2
        outside  | ExternalName | <none>     | example.com                        | <none>        | AGE | <none>
        pending  | LoadBalancer | 10.96.0.3  | <pending>                          | 80:30080/TCP  | AGE | <none>
        plain    | ClusterIP    | 10.96.0.1  | <none>                             | 80/TCP,53/UDP | AGE | app=web
        served   | LoadBalancer | 10.96.0.4  | 203.0.113.5,lb.example,203.0.113.7 | 80:30081/TCP  | AGE | <none>
        """,
    "/apis/discovery.k8s.io/v1/endpointslices": """
        Name  | AddressType | Ports             | Endpoints                                | Age
        empty | IPv4        | <unset>           | <unset>                                  | AGE
        few   | IPv6        | 8080,*            | 2001:db8::1,2001:db8::2                  | AGE
        many  | IPv4        | 1,2,3 + 1 more... | 10.0.0.1,10.0.0.2,10.0.0.3 + 2 more...   | AGE
        """,
    "/api/v1/nodes?fieldSelector=metadata.name=full": """
        Name | Status                   | Roles       | Age | Version | Internal-IP | External-IP | OS-Image \
| Kernel-Version | Container-Runtime
        full | Ready,SchedulingDisabled | edge,worker | AGE | v1.37.0 | 192.0.2.1   | 203.0.113.1 | Linux \
| 6.18 | c://1
        """,
    "/api/v1/nodes?fieldSelector=metadata.name=sick": """
        Name | Status   | Roles  | Age | Version | Internal-IP | External-IP | OS-Image | Kernel-Version \
| Container-Runtime
        sick | NotReady | <none> | AGE |         | <none>      | <none>      | <unknown> | <unknown> | <unknown>
        """,
    "/api/v1/nodes?fieldSelector=metadata.name=bare": """
        Name | Status  | Roles  | Age | Version | Internal-IP | External-IP | OS-Image | Kernel-Version \
| Container-Runtime
        bare | Unknown | <none> | AGE |         | <none>      | <none>      | <unknown> | <unknown> | <unknown>
        """,
    "/api/v1/pods": """
        Name       | Ready | Status  | Restarts | Age | IP       | Node   | Nominated Node | Readiness Gates
        new        | 0/2   | Pending | 0        | AGE | <none>   | <none> | <none>         | <none>
        old        | 1/1   | Running | 3        | AGE | 10.1.0.1 | full   | <none>         | <none>
        thrown-out | 0/1   | Evicted | 0        | AGE | <none>   | <none> | <none>         | <none>
        """,
    "/api/v1/namespaces": """
        Name            | Status | Age
        default         | Active | AGE
        kube-node-lease | Active | AGE
        kube-public     | Active | AGE
        kube-system     | Active | AGE
        """,
}


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]


def as_shown(cells: list[Any]) -> list[str]:
    return [re.sub(r"^\d+s$", "AGE", str(cell)) for cell in cells]


@pytest.fixture
def loaded(server: ApiServer) -> ApiServer:
    server.load(yaml.safe_load_all(MANIFESTS))
    return server


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("path", EXPECTED)
async def test_every_kind(api: Any, path: str) -> None:
    _, table = await api("GET", path, Accept=TABLE)
    head, *expected = rows(EXPECTED[path])
    assert [column["name"] for column in table["columnDefinitions"]] == head
    assert [as_shown(row["cells"]) for row in table["rows"]] == expected


@pytest.mark.usefixtures("loaded")
async def test_a_namespace_that_goes_says_so(api: Any) -> None:
    await api("POST", "/api/v1/namespaces", {"metadata": {"name": "demo"}})
    await api("DELETE", "/api/v1/namespaces/demo")
    _, table = await api("GET", "/api/v1/namespaces/demo", Accept=TABLE)
    assert as_shown(table["rows"][0]["cells"]) == ["demo", "Terminating", "AGE"]


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_the_shape_of_every_table(api: Any, kind: Any) -> None:
    _, table = await api("GET", f"{kind.root}/{kind.plural}", Accept=TABLE)
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert table["metadata"]["resourceVersion"].isdecimal()
    columns = table["columnDefinitions"]
    assert [column["priority"] for column in columns] == sorted(column["priority"] for column in columns)
    assert all(column["type"] in ("string", "integer") for column in columns)
    assert [column["format"] for column in columns] == ["name"] + [""] * (len(columns) - 1)
    for row in table["rows"]:
        assert len(row["cells"]) == len(columns)
        for cell, column in zip(row["cells"], columns, strict=True):
            assert isinstance(cell, int if column["type"] == "integer" else str)
        assert row["object"]["kind"] == "PartialObjectMetadata"
        assert row["object"]["metadata"]["name"] == row["cells"][0]


@pytest.mark.usefixtures("loaded")
async def test_tables_in_pages(api: Any) -> None:
    _, first = await api("GET", "/api/v1/services?limit=2", Accept=TABLE)
    assert [row["cells"][0] for row in first["rows"]] == ["headless", "outside"]
    assert first["metadata"]["remainingItemCount"] == 3
    token = first["metadata"]["continue"]
    _, rest = await api("GET", f"/api/v1/services?limit=9&continue={token}", Accept=TABLE)
    assert [row["cells"][0] for row in rest["rows"]] == ["pending", "plain", "served"]


async def test_a_watched_table_shows_each_change(api: Any, server: ApiServer, service: Any) -> None:
    start = server.revision
    server.load([service(clusterIP="10.96.0.9"), service(clusterIP="10.96.0.9", type="NodePort")])
    server.delete(service())
    path = f"/api/v1/services?watch=1&resourceVersion={start}"
    events = await api.events(path, 3, Accept=TABLE)
    shown = [(event["type"], event["object"]["rows"][0]["cells"][1]) for event in events]
    assert shown == [("ADDED", "ClusterIP"), ("MODIFIED", "NodePort"), ("DELETED", "NodePort")]
    assert [bool(event["object"]["columnDefinitions"]) for event in events] == [True, False, False]
