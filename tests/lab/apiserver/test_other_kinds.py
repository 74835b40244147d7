"""Namespaces, Nodes and Pods."""

from __future__ import annotations

from typing import Any

import pytest


async def test_the_namespaces_of_every_cluster(api: Any) -> None:
    _, listing = await api("GET", "/api/v1/namespaces")
    names = [item["metadata"]["name"] for item in listing["items"]]
    assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]


async def test_a_namespace_is_labelled_with_its_name_and_active(api: Any) -> None:
    code, made = await api("POST", "/api/v1/namespaces", {"metadata": {"name": "demo", "labels": {"a": "b"}}})
    assert code == 201
    assert made["metadata"]["labels"] == {"a": "b", "kubernetes.io/metadata.name": "demo"}
    assert (made["spec"], made["status"]) == ({"finalizers": ["kubernetes"]}, {"phase": "Active"})
    code, status = await api("POST", "/api/v1/namespaces", {"metadata": {"name": "a.b"}})
    assert (code, status["details"]["causes"][0]["field"]) == (422, "metadata.name")


async def test_a_pod_starts_pending_and_gets_its_status_apart(api: Any) -> None:
    path = "/api/v1/namespaces/default/pods"
    containers = [{"name": "main", "image": "web", "ports": [{"containerPort": 80}]}]
    pod = {"metadata": {"name": "web"}, "spec": {"containers": containers}, "status": {"phase": "Running"}}
    _, made = await api("POST", path, pod)
    assert made["status"] == {"phase": "Pending"}
    assert made["spec"]["restartPolicy"] == "Always"
    assert made["spec"]["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    patch = {"status": {"phase": "Running", "podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}]}}
    kind = "application/strategic-merge-patch+json"
    _, running = await api("PATCH", f"{path}/web/status", patch, kind=kind)
    assert running["status"]["podIP"] == "10.1.0.1"
    assert running["metadata"]["generation"] == 1
    _, listing = await api("GET", "/api/v1/pods?fieldSelector=status.podIP=10.1.0.1,status.phase!=Pending")
    assert len(listing["items"]) == 1


async def test_a_node_registers_with_its_status(api: Any) -> None:
    node = {
        "metadata": {"name": "n1.example"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    }
    _, made = await api("POST", "/api/v1/nodes", node)
    assert made["status"] == node["status"]
    patch = {"status": {"addresses": [{"type": "Hostname", "address": "n1"}]}}
    kind = "application/strategic-merge-patch+json"
    _, after = await api("PATCH", "/api/v1/nodes/n1.example/status", patch, kind=kind)
    assert [address["type"] for address in after["status"]["addresses"]] == ["InternalIP", "Hostname"]


async def test_cluster_wide_kinds_lose_a_namespace(api: Any) -> None:
    _, made = await api("POST", "/api/v1/nodes", {"metadata": {"name": "n", "namespace": "default"}})
    assert "namespace" not in made["metadata"]


@pytest.mark.parametrize("field", ["labels", "annotations", "finalizers", "ownerReferences"])
@pytest.mark.parametrize("empty", [None, {}, []])
async def test_empty_metadata_is_left_out(api: Any, field: str, empty: Any) -> None:
    _, made = await api("POST", "/api/v1/nodes", {"metadata": {"name": "n", field: empty}})
    assert field not in made["metadata"]
