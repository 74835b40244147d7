"""Services: defaults, addresses, ports, and what is refused."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from kpng.lab.apiserver import ApiError, ApiServer

PATH = "/api/v1/namespaces/default/services"


def only(server: ApiServer) -> dict[str, Any]:
    (stored,) = server.objects("Service")
    spec: dict[str, Any] = stored["spec"]
    return spec


async def test_defaults(server: ApiServer, service: Any) -> None:
    server.load(
        [service(ports=[{"port": 80}, {"name": "b", "port": 53, "protocol": "UDP", "targetPort": "dns"}][:1])]
    )
    spec = only(server)
    address = spec.pop("clusterIP")
    assert ip_address(address) in ip_network("10.96.0.0/16")
    assert spec == {
        "type": "ClusterIP",
        "clusterIPs": [address],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "NodePort"}, {"externalTrafficPolicy": "Cluster"}),
        ({"type": "LoadBalancer"}, {"allocateLoadBalancerNodePorts": True, "externalTrafficPolicy": "Cluster"}),
        ({"sessionAffinity": "ClientIP"}, {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}}),
        ({"clusterIP": "None"}, {"clusterIPs": ["None"], "clusterIP": "None"}),
        ({"clusterIP": "None", "selector": {"a": "b"}}, {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}),
        ({"clusterIP": "None"}, {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}),
        ({"clusterIP": "fd00:10:96::9"}, {"ipFamilies": ["IPv6"], "clusterIPs": ["fd00:10:96::9"]}),
        ({"ipFamilies": ["IPv6"]}, {"ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}),
        ({"ipFamilies": ["IPv6", "IPv4"]}, {"ipFamilyPolicy": "RequireDualStack"}),
        ({"ipFamilyPolicy": "PreferDualStack"}, {"ipFamilies": ["IPv4", "IPv6"]}),
        ({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}, {"ipFamilies": ["IPv6", "IPv4"]}),
    ],
)
async def test_what_follows_from_what(
    server: ApiServer, service: Any, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    server.load([service(**given)])
    spec = only(server)
    assert {field: spec.get(field) for field in expected} == expected


async def test_external_names_have_no_address(server: ApiServer, service: Any) -> None:
    server.load([service(type="ExternalName", externalName="example.com")])
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "internalTrafficPolicy"} & only(server).keys()


async def test_dual_stack_comes_and_goes(server: ApiServer, service: Any) -> None:
    server.load([service()])
    first = only(server)["clusterIP"]
    server.load([service(ipFamilyPolicy="PreferDualStack")])
    both = only(server)["clusterIPs"]
    assert both[0] == first
    assert ip_address(both[1]) in ip_network("fd00:10:96::/112")
    server.load([service(ipFamilyPolicy="SingleStack")])
    assert only(server)["clusterIPs"] == [first]
    server.load([service("next", clusterIP=both[1])])


async def test_addresses_and_ports_are_unique_and_come_back(service: Any) -> None:
    server = ApiServer(service_cidrs=["192.0.2.0/29"], node_ports=range(30000, 30003))
    server.load([service("a", type="NodePort"), service("b", type="NodePort"), service("c", type="NodePort")])
    specs = [thing["spec"] for thing in server.objects("Service")]
    assert len({spec["clusterIP"] for spec in specs}) == 3
    assert {spec["ports"][0]["nodePort"] for spec in specs} == {30000, 30001, 30002}
    with pytest.raises(ApiError, match="failed to allocate a nodePort: range is full"):
        server.load([service("d", type="NodePort")])
    server.delete(service("b"))
    server.load([service("d", type="NodePort"), service("e"), service("f"), service("g")])
    with pytest.raises(ApiError, match="failed to allocate a serviceIP"):
        server.load([service("h")])


async def test_one_number_serves_two_protocols(server: ApiServer, service: Any) -> None:
    ports = [
        {"name": "tcp", "port": 53, "nodePort": 30053},
        {"name": "udp", "port": 53, "nodePort": 30053, "protocol": "UDP"},
    ]
    server.load([service(type="NodePort", ports=ports)])
    assert [port["nodePort"] for port in only(server)["ports"]] == [30053, 30053]


async def test_health_check_port_for_local_load_balancers(server: ApiServer, service: Any) -> None:
    server.load([service(type="LoadBalancer", externalTrafficPolicy="Local")])
    spec = only(server)
    assert spec["healthCheckNodePort"] in range(30000, 32768)
    assert spec["healthCheckNodePort"] != spec["ports"][0]["nodePort"]
    kept = service(type="LoadBalancer", externalTrafficPolicy="Local")
    server.load([kept])
    assert only(server)["healthCheckNodePort"] == spec["healthCheckNodePort"]
    taken = service("b", type="LoadBalancer", externalTrafficPolicy="Local")
    taken["spec"]["healthCheckNodePort"] = spec["healthCheckNodePort"]
    with pytest.raises(ApiError, match="provided port is already allocated"):
        server.load([taken])
    server.load([service(type="LoadBalancer", externalTrafficPolicy="Cluster")])
    assert "healthCheckNodePort" not in only(server)
    server.load([taken])


async def test_load_balancers_without_node_ports(server: ApiServer, service: Any) -> None:
    server.load([service(type="LoadBalancer", allocateLoadBalancerNodePorts=False)])
    assert "nodePort" not in only(server)["ports"][0]


async def test_back_to_cluster_ip_frees_the_node_port(api: Any, server: ApiServer, service: Any) -> None:
    _, made = await api("POST", PATH, service(type="NodePort"))
    number = made["spec"]["ports"][0]["nodePort"]
    made["spec"]["type"] = "ClusterIP"
    code, updated = await api("PUT", f"{PATH}/web", made)
    assert code == 200
    assert "nodePort" not in updated["spec"]["ports"][0]
    assert "externalTrafficPolicy" not in updated["spec"]
    server.load([service("next", type="NodePort", ports=[{"port": 1, "nodePort": number}])])


async def test_node_ports_stay_when_an_update_leaves_them_out(api: Any, service: Any) -> None:
    _, made = await api("POST", PATH, service(type="NodePort"))
    _, updated = await api("PUT", f"{PATH}/web", service(type="NodePort"))
    assert updated["spec"]["ports"] == made["spec"]["ports"]


async def test_a_dry_run_reserves_nothing(api: Any, server: ApiServer, service: Any) -> None:
    fixed = service(clusterIP="10.96.0.7", type="NodePort", ports=[{"port": 1, "nodePort": 30007}])
    assert (await api("POST", f"{PATH}?dryRun=All", fixed))[0] == 201
    assert server.objects("Service") == []
    assert (await api("POST", PATH, fixed))[0] == 201
    assert (await api("DELETE", f"{PATH}/web?dryRun=All"))[0] == 200
    assert len(server.objects("Service")) == 1


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"ports": []}, "spec.ports: Required value"),
    (
        {"ports": [{"port": 0, "targetPort": 1}]},
        "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535",
    ),
    ({"ports": [{"port": 1, "targetPort": 65536}]}, "spec.ports[0].targetPort: Invalid value: 65536"),
    ({"ports": [{"port": 1, "protocol": "ICMP"}]}, 'spec.ports[0].protocol: Unsupported value: "ICMP": supported'),
    ({"ports": [{"port": 1}, {"name": "b", "port": 2}]}, "spec.ports[0].name: Required value"),
    ({"ports": [{"name": "b", "port": 1}, {"name": "b", "port": 2}]}, 'spec.ports[1].name: Duplicate value: "b"'),
    ({"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 1}]}, "spec.ports[1]: Duplicate value: "),
    (
        {"ports": [{"name": "A_B", "port": 1}]},
        'spec.ports[0].name: Invalid value: "A_B": a lowercase RFC 1123 label',
    ),
    ({"ports": [{"port": 1, "nodePort": 30001}]}, "spec.ports[0].nodePort: Forbidden: may not be used when `type`"),
    ({"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]}, "The range of valid ports is 30000-32767"),
    ({"type": "Odd"}, 'spec.type: Unsupported value: "Odd": supported values: "ClusterIP", "ExternalName"'),
    ({"sessionAffinity": "Odd"}, 'spec.sessionAffinity: Unsupported value: "Odd"'),
    ({"internalTrafficPolicy": "Odd"}, 'spec.internalTrafficPolicy: Unsupported value: "Odd"'),
    ({"externalTrafficPolicy": "Local"}, "may only be set for externally-accessible services"),
    (
        {"type": "NodePort", "healthCheckNodePort": 30001},
        "spec.healthCheckNodePort: Invalid value: 30001: may only",
    ),
    ({"loadBalancerClass": "a/b"}, "spec.loadBalancerClass: Forbidden"),
    ({"clusterIP": "10.96.0.300"}, 'spec.clusterIPs[0]: Invalid value: "10.96.0.300": must be a valid IP address'),
    (
        {"clusterIP": "192.0.2.1"},
        "the provided IP (192.0.2.1) is not in the valid range. The range of valid IPs is",
    ),
    ({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.2"]}, "first value must match `clusterIP`"),
    ({"clusterIP": "None", "type": "NodePort"}, "may not be set to 'None' for NodePort services"),
    ({"type": "ExternalName", "externalName": "a b"}, 'spec.externalName: Invalid value: "a b"'),
    ({"type": "ExternalName", "externalName": "a", "clusterIP": "10.96.0.1"}, "may not be set when `type`"),
    ({"externalIPs": ["a"]}, 'spec.externalIPs[0]: Invalid value: "a"'),
    ({"ipFamilies": ["IPv5"]}, 'spec.ipFamilies[0]: Invalid value: "IPv5": not configured on this cluster'),
    ({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]}, "spec.ipFamilyPolicy: Invalid value"),
    (
        {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}},
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0",
    ),
]


@pytest.mark.parametrize(("spec", "message"), INVALID)
async def test_invalid_services(api: Any, service: Any, spec: dict[str, Any], message: str) -> None:
    code, status = await api("POST", PATH, service(**spec))
    assert (code, status["reason"]) == (422, "Invalid")
    assert status["message"].startswith('Service "web" is invalid: ')
    assert message in status["message"]
    assert status["details"]["causes"][0]["field"] in status["message"]


@pytest.mark.parametrize("name", ["1web", "Web", "a.b", "a" * 64, "-a"])
async def test_service_names_are_dns_labels(api: Any, service: Any, name: str) -> None:
    code, status = await api("POST", PATH, service(name))
    assert (code, status["details"]["causes"][0]["field"]) == (422, "metadata.name")


async def test_all_faults_are_listed(api: Any, service: Any) -> None:
    _, status = await api("POST", PATH, service(type="Odd", ports=[{"port": 0, "targetPort": 1}]))
    assert len(status["details"]["causes"]) == 2
    assert '" is invalid: [spec.type: ' in status["message"]


async def test_collisions_are_invalid(api: Any, server: ApiServer, service: Any) -> None:
    server.load([service(type="NodePort", clusterIP="10.96.0.9", ports=[{"port": 1, "nodePort": 30009}])])
    _, status = await api("POST", PATH, service("b", clusterIP="10.96.0.9"))
    assert "failed to allocate IP 10.96.0.9: provided IP is already allocated" in status["message"]
    _, status = await api("POST", PATH, service("b", type="NodePort", ports=[{"port": 1, "nodePort": 30009}]))
    assert "spec.ports[0].nodePort: Invalid value: 30009: provided port is already allocated" in status["message"]


async def test_the_address_may_not_change(api: Any, service: Any) -> None:
    await api("POST", PATH, service())
    code, status = await api("PUT", f"{PATH}/web", service(clusterIP="10.96.0.77"))
    assert (code, "may not change once set" in status["message"]) == (422, True)


async def test_dual_stack_needs_two_ranges(service: Any) -> None:
    server = ApiServer(service_cidrs=["10.96.0.0/24"])
    with pytest.raises(ApiError, match="this cluster is not configured for dual-stack services"):
        server.load([service(ipFamilyPolicy="RequireDualStack")])
    server.load([service(ipFamilyPolicy="PreferDualStack")])
    assert only(server)["ipFamilies"] == ["IPv4"]
