"""The real kubectl against the embedded server."""

from __future__ import annotations

import asyncio
import json
import re
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from kpng.lab.apiserver import ApiServer

MANIFEST = textwrap.dedent("""
    apiVersion: v1
    kind: Namespace
    metadata: {name: demo}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: web, namespace: demo, labels: {app: web}}
    spec:
      clusterIP: 10.96.0.10
      selector: {app: web}
      ports: [{name: http, port: 80, targetPort: 8080}, {name: dns, port: 53, protocol: UDP}]
    ---
    apiVersion: discovery.k8s.io/v1
    kind: EndpointSlice
    metadata: {name: web-1, namespace: demo, labels: {kubernetes.io/service-name: web}}
    addressType: IPv4
    ports: [{name: http, port: 8080, protocol: TCP}]
    endpoints: [{addresses: [10.1.1.1], conditions: {ready: true}, nodeName: node-1}]
    ---
    apiVersion: v1
    kind: Node
    metadata: {name: node-1, labels: {node-role.kubernetes.io/worker: ""}}
    status:
      addresses: [{type: InternalIP, address: 192.0.2.1}]
      conditions: [{type: Ready, status: "True"}]
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: web-a, namespace: demo, labels: {app: web}}
    spec: {nodeName: node-1, containers: [{name: main, image: web}]}
    """)

Kubectl = Callable[..., Any]


def words(table: str) -> list[list[str]]:
    """The cells of a table, those with ages as AGE."""
    return [re.sub(r"(?<!\S)\d+s(?!\S)", "AGE", line).split() for line in table.splitlines()]


async def test_apply_get_and_delete_a_set_of_manifests(kubectl: Kubectl) -> None:
    assert (await kubectl("apply", "-f", "-", stdin=MANIFEST)).splitlines() == [
        "namespace/demo created",
        "service/web created",
        "endpointslice.discovery.k8s.io/web-1 created",
        "node/node-1 created",
        "pod/web-a created",
    ]
    again = await kubectl("apply", "-f", "-", stdin=MANIFEST)
    assert all(line.endswith("unchanged") for line in again.splitlines()), again
    deleted = await kubectl("delete", "-f", "-", stdin=MANIFEST)
    assert deleted.count("deleted") == 5
    assert await kubectl("get", "svc,pods,nodes,endpointslices", "-A") == "No resources found\n"


async def test_tables_look_as_from_a_real_cluster(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=MANIFEST)
    assert words(await kubectl("get", "svc", "-n", "demo", "-o", "wide")) == [
        ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"],
        ["web", "ClusterIP", "10.96.0.10", "<none>", "80/TCP,53/UDP", "AGE", "app=web"],
    ]
    rest = words(await kubectl("get", "endpointslices,nodes,pods", "-A", "--no-headers"))
    assert ["demo", "endpointslice.discovery.k8s.io/web-1", "IPv4", "8080", "10.1.1.1", "AGE"] in rest
    assert ["node/node-1", "Ready", "worker", "AGE"] in rest
    assert ["demo", "pod/web-a", "0/1", "Pending", "0", "AGE"] in rest
    everything = await kubectl("get", "all", "-n", "demo", "-o", "name")
    assert everything.splitlines() == ["pod/web-a", "service/web"]


async def test_output_as_json_and_jsonpath(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=MANIFEST)
    thing = json.loads(await kubectl("get", "svc", "web", "-n", "demo", "-o", "json"))
    assert thing["spec"]["clusterIPs"] == ["10.96.0.10"]
    assert thing["spec"]["ports"][1] == {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53}
    assert "managedFields" not in thing["metadata"]
    path = "jsonpath={.items[*].metadata.name}"
    assert await kubectl("get", "pods", "-A", "--field-selector", "spec.nodeName=node-1", "-o", path) == "web-a"
    assert await kubectl("get", "pods", "-A", "--field-selector", "spec.nodeName!=node-1", "-o", path) == ""


async def test_apply_of_a_changed_manifest_merges_ports_by_key(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=MANIFEST)
    changed = MANIFEST.replace(", {name: dns, port: 53, protocol: UDP}", ", {name: alt, port: 81}")
    assert "service/web configured" in await kubectl("apply", "-f", "-", stdin=changed)
    path = "jsonpath={.spec.ports[*].name} {.spec.clusterIP}"
    assert await kubectl("get", "svc", "web", "-n", "demo", "-o", path) == "http alt 10.96.0.10"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-p", '{"spec":{"ports":[{"port":53,"$patch":"delete"}]}}'], "80"),
        (["-p", '{"spec":{"ports":[{"port":80,"targetPort":9}]}}'], "80 53"),
        (["--type=merge", "-p", '{"spec":{"ports":[{"port":99}]}}'], "99"),
        (["--type=json", "-p", '[{"op":"remove","path":"/spec/ports/0"}]'], "53"),
        (["--subresource=status", "-p", '{"status":{"loadBalancer":{}},"spec":{"ports":[]}}'], "80 53"),
    ],
)
async def test_patch(
    kubectl: Kubectl, server: ApiServer, service: Any, arguments: list[str], expected: str
) -> None:
    ports = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    server.load([service(ports=ports)])
    await kubectl("patch", "svc", "web", *arguments)
    (stored,) = server.objects("Service")
    assert " ".join(str(port["port"]) for port in stored["spec"]["ports"]) == expected


async def test_server_side_apply_conflicts_until_forced(kubectl: Kubectl, server: ApiServer) -> None:
    apply = ("apply", "--server-side", "-f", "-")
    await kubectl(*apply, stdin=MANIFEST)
    changed = MANIFEST.replace("targetPort: 8080", "targetPort: 9090")
    refused = await kubectl(*apply, "--field-manager=other", stdin=changed, code=1)
    assert 'conflict with "kubectl"' in refused
    assert "targetPort" in refused
    await kubectl(*apply, "--field-manager=other", "--force-conflicts", stdin=changed)
    (stored,) = server.objects("Service")
    assert stored["spec"]["ports"][0]["targetPort"] == 9090


async def test_label_annotate_describe_and_selectors(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=MANIFEST)
    await kubectl("label", "svc", "web", "-n", "demo", "tier=front")
    await kubectl("annotate", "svc", "web", "-n", "demo", "note=hello")
    found = await kubectl("get", "svc", "-A", "-l", "tier in (front,back),!gone", "-o", "name")
    assert found == "service/web\n"
    described = await kubectl("describe", "svc", "web", "-n", "demo")
    assert ["Endpoints:", "10.1.1.1:8080"] in words(described)
    assert ["IP:", "10.96.0.10"] in words(described)


async def test_errors_read_as_from_a_real_cluster(kubectl: Kubectl) -> None:
    missing = await kubectl("get", "svc", "nothing", code=1)
    assert missing == 'Error from server (NotFound): services "nothing" not found\n'
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 70000, targetPort: 80}]}\n"
    refused = await kubectl("create", "-f", "-", stdin=text, code=1)
    assert 'The Service "bad" is invalid: spec.ports[0].port: Invalid value: 70000: must be between' in refused
    lost = await kubectl("create", "-n", "gone", "-f", "-", stdin=text, code=1)
    assert 'namespaces "gone" not found' in lost


async def test_dry_run_changes_nothing(kubectl: Kubectl, server: ApiServer) -> None:
    revision = server.revision
    output = await kubectl("create", "--dry-run=server", "-f", "-", stdin=MANIFEST.split("---")[3])
    assert "created (server dry run)" in output
    assert server.revision == revision


async def test_watch_prints_changes_as_they_come(kubectl: Kubectl, server: ApiServer, service: Any) -> None:
    server.load([service("first")])
    watching = asyncio.create_task(kubectl("get", "svc", "-w", "--output-watch-events", "--request-timeout=2s"))
    async with asyncio.timeout(10):
        await server.faults.wait_for_watches()
    server.load([service("second")])
    server.load([service("second", type="NodePort")])
    server.delete(service("first"))
    seen = [line[:3] for line in words(await watching) if len(line) > 5]
    assert seen == [
        ["EVENT", "NAME", "TYPE"],
        ["ADDED", "first", "ClusterIP"],
        ["ADDED", "second", "ClusterIP"],
        ["MODIFIED", "second", "NodePort"],
        ["DELETED", "first", "ClusterIP"],
    ]


async def test_wait_for_a_condition(kubectl: Kubectl, server: ApiServer) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {}}
    server.load([node])
    waiting = asyncio.create_task(kubectl("wait", "node/n", "--for=condition=Ready", "--timeout=10s"))
    async with asyncio.timeout(10):
        await server.faults.wait_for_watches()
    server.load([node | {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}])
    assert await waiting == "node/n condition met\n"


async def test_api_resources_and_version(kubectl: Kubectl) -> None:
    rows = words(await kubectl("api-resources", "--no-headers"))
    assert ["services", "svc", "v1", "true", "Service"] in rows
    assert ["endpointslices", "discovery.k8s.io/v1", "true", "EndpointSlice"] in rows
    assert "Server Version: v1.37" in await kubectl("version")


async def test_run_expose_and_cordon(kubectl: Kubectl, server: ApiServer) -> None:
    server.load([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}])
    await kubectl("run", "web", "--image=web", "--port=8080", "--labels=app=web")
    await kubectl("expose", "pod", "web", "--port=80", "--target-port=8080")
    (service,) = server.objects("Service")
    assert (service["spec"]["selector"], service["spec"]["ports"][0]["targetPort"]) == ({"app": "web"}, 8080)
    await kubectl("cordon", "n")
    assert "SchedulingDisabled" in await kubectl("get", "nodes", "--field-selector=spec.unschedulable=true")


async def test_replace_diff_taint_and_delete_all(kubectl: Kubectl, server: ApiServer) -> None:
    await kubectl("create", "-f", "-", stdin=MANIFEST)
    changed = MANIFEST.replace("targetPort: 8080", "targetPort: 9090")
    difference = await kubectl("diff", "-f", "-", stdin=changed, code=1)
    assert "-    targetPort: 8080" in difference
    assert "+    targetPort: 9090" in difference
    await kubectl("replace", "-f", "-", stdin=changed)
    (service,) = server.objects("Service")
    assert service["spec"]["ports"][0]["targetPort"] == 9090
    await kubectl("taint", "nodes", "node-1", "a=b:NoSchedule")
    (node,) = server.objects("Node")
    assert node["spec"]["taints"] == [{"effect": "NoSchedule", "key": "a", "value": "b"}]
    assert node["status"]["addresses"], "a write to the node keeps its status"
    await kubectl("delete", "svc,endpointslices,pods", "--all", "-n", "demo")
    assert [server.objects(kind) for kind in ("Service", "EndpointSlice", "Pod")] == [[], [], []]


async def test_deleting_a_namespace_waits_until_it_is_gone(kubectl: Kubectl, server: ApiServer) -> None:
    await kubectl("apply", "-f", "-", stdin=MANIFEST)
    assert 'namespace "demo" deleted' in await kubectl("delete", "namespace", "demo")
    assert "demo" not in [thing["metadata"]["name"] for thing in server.objects("Namespace")]
    assert server.objects("Service") == []
