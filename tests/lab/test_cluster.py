"""The lab's API server and pods as processes in their namespaces, still without kpng."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kpng.lab.api import SERVICES, SLICES
from kpng.lab.cluster import Cluster
from kpng.lab.manifests import all_objects, endpoint, service_object, slice_object
from kpng.lab.processes import LabError
from kpng.lab.services import WEB, ServicePlan
from kpng.lab.state import directory
from kpng.lab.topology import CONTROL, plan
from kpng.model import Family

pytestmark = [pytest.mark.netns, pytest.mark.slow]


@pytest.fixture
async def cluster(lab_name: str) -> AsyncIterator[Cluster]:
    directory(lab_name).mkdir()
    built = Cluster(plan(lab_name, 2), directory(lab_name))
    try:
        built.build()
        yield built
    finally:
        built.close()
        built.processes.kill()


async def test_the_api_server_holds_the_manifests_and_takes_changes(cluster: Cluster) -> None:
    await cluster.start_api_server()
    api, topology = cluster.api, cluster.topology
    services = await api.call("GET", SERVICES)
    names = {service["metadata"]["name"] for service in services["items"]}
    assert names == {service["metadata"]["name"] for service in all_objects(topology)["services"]}
    web = await api.call("GET", f"{SERVICES}/web")
    assert web["spec"]["clusterIPs"] == list(WEB.cluster_ips.both)
    assert web["status"]["loadBalancer"]["ingress"]

    leaving = topology.pod("shop-2")
    change = {"endpoints": [endpoint(topology, leaving, Family.IPV4, terminating=True)]}
    patched = await api.patch(SLICES, "shop-ipv4", change)
    assert [found["conditions"]["terminating"] for found in patched["endpoints"]] == [True]
    assert patched["addressType"] == "IPv4"

    created = await api.create(SLICES, slice_object(topology, "empty", topology.pods_of("web"), Family.IPV4))
    assert created["metadata"]["resourceVersion"]
    await api.delete(SLICES, "empty-ipv4")
    with pytest.raises(LabError, match=r"refused GET .*empty-ipv4"):
        await api.call("GET", f"{SLICES}/empty-ipv4")


async def test_a_new_service_gets_a_cluster_ip_of_its_own(cluster: Cluster) -> None:
    await cluster.start_api_server()
    made = service_object(ServicePlan("new", "web", WEB.cluster_ips))
    for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        del made["spec"][key]
    address = (await cluster.api.create(SERVICES, made))["spec"]["clusterIP"]
    taken = {ip for service in all_objects(cluster.topology)["services"] for ip in service["spec"]["clusterIPs"]}
    assert address
    assert address not in taken


async def test_kubectl_works_in_the_control_plane(cluster: Cluster) -> None:
    await cluster.start_api_server()
    kubectl = ("kubectl", "--kubeconfig", str(cluster.kubeconfig))
    said = cluster.machines[CONTROL].run(*kubectl, "get", "services,endpointslices,nodes,pods", "-o", "name")
    assert {"service/web", "endpointslice.discovery.k8s.io/web-ipv6", "node/node2", "pod/shop-2"} <= set(
        said.split()
    )


async def test_pods_start_stop_and_start_again(cluster: Cluster) -> None:
    await cluster.start_pods()
    pod = cluster.topology.pod("shop-2")
    await cluster.processes.stop(pod.name)
    await cluster.start_pod(pod)
    cluster.processes.check()
    assert "ready" in cluster.processes.log(pod.name).read_text()


async def test_an_api_server_that_cannot_start_is_named(cluster: Cluster) -> None:
    (cluster.folder / "manifests" / "broken.yaml").write_text("kind: [")
    with pytest.raises(LabError, match="apiserver ended early") as failed:
        await cluster.start_api_server()
    assert "broken.yaml" in str(failed.value)
