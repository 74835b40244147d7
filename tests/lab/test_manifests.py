"""The example manifests: read back as YAML, they hold together and fit the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kpng.lab.apiserver import ApiServer
from kpng.lab.manifests import all_objects, endpoint, slice_object, write
from kpng.lab.services import SERVICE_PORTS, SERVICES
from kpng.lab.topology import Topology, plan
from kpng.model import Family


@pytest.fixture(params=[2, 3])
def topology(request: pytest.FixtureRequest) -> Topology:
    return plan("lab", request.param)


def load(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {path.stem: list(yaml.safe_load_all(path.read_text())) for path in sorted(folder.glob("*.yaml"))}


def test_files_hold_what_was_made(topology: Topology, tmp_path: Path) -> None:
    write(topology, tmp_path / "manifests")
    assert load(tmp_path / "manifests") == all_objects(topology)


def test_no_two_objects_share_a_name(topology: Topology) -> None:
    made = [(item["kind"], item["metadata"]["name"]) for items in all_objects(topology).values() for item in items]
    assert len(made) == len(set(made))


def test_every_slice_belongs_to_a_service_and_its_pods_and_nodes(topology: Topology) -> None:
    objects = all_objects(topology)
    names = {kind: {item["metadata"]["name"] for item in items} for kind, items in objects.items()}
    addresses = {
        pod["metadata"]["name"]: {entry["ip"] for entry in pod["status"]["podIPs"]} for pod in objects["pods"]
    }
    for made in objects["endpointslices"]:
        assert made["metadata"]["labels"]["kubernetes.io/service-name"] in names["services"]
        assert made["endpoints"]
        for found in made["endpoints"]:
            assert found["nodeName"] in names["nodes"]
            assert set(found["addresses"]) <= addresses[found["targetRef"]["name"]]
            assert (":" in found["addresses"][0]) is (made["addressType"] == "IPv6")


def test_every_service_but_the_empty_one_has_slices_of_both_families(topology: Topology) -> None:
    objects = all_objects(topology)
    sliced = {made["metadata"]["name"] for made in objects["endpointslices"]}
    expected = {f"{service.name}-{family}" for service in SERVICES if service.app for family in ("ipv4", "ipv6")}
    assert sliced == expected


def test_named_target_ports_exist_in_the_slices(topology: Topology) -> None:
    objects = all_objects(topology)
    for service in objects["services"]:
        assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == SERVICE_PORTS
    for made in objects["endpointslices"]:
        assert {port["name"] for port in made["ports"]} == set(SERVICE_PORTS)


def test_node_ports_are_given_only_to_services_that_have_them(topology: Topology) -> None:
    for service in all_objects(topology)["services"]:
        given = ["nodePort" in port for port in service["spec"]["ports"]]
        assert all(given) if service["spec"]["type"] != "ClusterIP" else not any(given)


def test_nothing_is_left_to_the_api_server_to_pick(topology: Topology) -> None:
    """A number picked at random could be one that a later manifest asks for: the lab would fail now and then."""
    specs = [item["spec"] for item in all_objects(topology)["services"]]
    numbers = [port["nodePort"] for spec in specs for port in spec["ports"] if "nodePort" in port]
    numbers += [spec["healthCheckNodePort"] for spec in specs if "healthCheckNodePort" in spec]
    assert len(numbers) == len(set(numbers)) == 4 * len(SERVICE_PORTS) + 1
    addresses = [address for spec in specs for address in spec["clusterIPs"]]
    assert len(addresses) == len(set(addresses)) == 2 * len(SERVICES)
    server = ApiServer()
    for objects in all_objects(topology).values():
        server.load(objects)
    for stored, given in zip(server.objects("Service"), all_objects(topology)["services"], strict=True):
        assert {field: stored["spec"][field] for field in given["spec"]} == given["spec"]


def test_what_sets_services_apart() -> None:
    specs = {item["metadata"]["name"]: item for item in all_objects(plan())["services"]}
    assert specs["web-local"]["spec"]["externalTrafficPolicy"] == "Local"
    assert specs["web-near"]["spec"]["internalTrafficPolicy"] == "Local"
    assert "externalTrafficPolicy" not in specs["web-near"]["spec"]
    assert specs["sticky"]["spec"]["sessionAffinity"] == "ClientIP"
    assert "selector" not in specs["empty"]["spec"]
    assert specs["web"]["status"]["loadBalancer"]["ingress"] == [{"ip": "203.0.113.80"}, {"ip": "2001:db8:113::80"}]
    assert "status" not in specs["shop"]
    assert specs["web"]["spec"]["externalIPs"] == ["203.0.113.180", "2001:db8:113::180"]
    assert specs["zonal"]["spec"]["trafficDistribution"] == "PreferSameZone"


def test_hints_name_each_endpoints_own_zone_and_only_where_they_are_wanted() -> None:
    for made in all_objects(plan())["endpointslices"]:
        for found in made["endpoints"]:
            hinted = made["metadata"]["labels"]["kubernetes.io/service-name"] == "zonal"
            assert found.get("hints") == ({"forZones": [{"name": found["zone"]}]} if hinted else None)


def test_a_terminating_endpoint_still_serves() -> None:
    topology = plan()
    made = endpoint(topology, topology.pod("web-1"), Family.IPV6, terminating=True)
    assert made["conditions"] == {"ready": False, "serving": True, "terminating": True}
    assert made["addresses"] == ["fd00:10:244:1::11"]
    assert made["zone"] == "zone-a"


def test_a_slice_without_pods_has_no_endpoints() -> None:
    made = slice_object(plan(), "empty", (), Family.IPV4)
    assert made["endpoints"] == []
    assert made["metadata"]["name"] == "empty-ipv4"
