"""What becomes of a Service's fields when its type, its policies or its families change."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from itertools import permutations
from typing import Any

import pytest

from kpng.lab.apiserver import ApiServer

PATH = "/api/v1/namespaces/default/services"
MERGE = "application/merge-patch+json"

Spec = dict[str, Any]
TYPES: dict[str, Spec] = {
    "ClusterIP": {"type": "ClusterIP"},
    "Headless": {"type": "ClusterIP", "clusterIP": "None"},
    "NodePort": {"type": "NodePort"},
    "LoadBalancer": {"type": "LoadBalancer"},
    "Local": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
    "ExternalName": {"type": "ExternalName", "externalName": "example.com"},
}
EXTERNAL = {"NodePort", "LoadBalancer", "Local"}
BALANCED = {"LoadBalancer", "Local"}
# An address may neither appear on a headless Service nor vanish from one that has it: "may not change once set".
POSSIBLE = [
    (before, after)
    for before, after in permutations(TYPES, 2)
    if "Headless" not in (before, after) or {before, after} == {"Headless", "ExternalName"}
]


def check(name: str, spec: Spec) -> None:
    """What a Service of such a type must and must not have."""
    assert ("externalTrafficPolicy" in spec) == (name in EXTERNAL)
    assert ("allocateLoadBalancerNodePorts" in spec) == (name in BALANCED)
    assert ("healthCheckNodePort" in spec) == (name == "Local")
    assert all(("nodePort" in port) == (name in EXTERNAL) for port in spec["ports"])
    assert ("internalTrafficPolicy" in spec) == (name != "ExternalName")
    if name == "ExternalName":
        assert not spec.get("clusterIP")
        assert not spec.get("clusterIPs")
        assert spec["externalName"] == "example.com"
    else:
        assert spec["clusterIPs"][0] == spec["clusterIP"]
        assert (spec["clusterIP"] == "None") == (name == "Headless")
        assert "externalName" not in spec


@pytest.mark.parametrize("name", TYPES)
async def test_a_new_service(api: Any, service: Callable[..., Any], name: str) -> None:
    code, made = await api("POST", PATH, service(**deepcopy(TYPES[name])))
    assert code == 201, made
    check(name, made["spec"])


@pytest.mark.parametrize(("before", "after"), POSSIBLE)
async def test_a_service_that_changes_its_type_as_if_written_anew(
    api: Any, service: Callable[..., Any], before: str, after: str
) -> None:
    """`kubectl replace`: the new manifest says nothing of what the server filled in."""
    await api("POST", PATH, service(**deepcopy(TYPES[before])))
    code, changed = await api("PUT", f"{PATH}/web", service(**deepcopy(TYPES[after])))
    assert code == 200, changed
    check(after, changed["spec"])


@pytest.mark.parametrize(("before", "after"), [pair for pair in POSSIBLE if "Headless" not in pair])
async def test_a_service_whose_type_alone_is_patched(
    api: Any, service: Callable[..., Any], before: str, after: str
) -> None:
    """`kubectl patch`: everything the server filled in for the old type is still there."""
    _, made = await api("POST", PATH, service(**deepcopy(TYPES[before])))
    patch = deepcopy(TYPES[after])
    if before == "Local" and after in ("NodePort", "LoadBalancer"):
        patch["externalTrafficPolicy"] = "Cluster"
    code, changed = await api("PATCH", f"{PATH}/web", {"spec": patch}, kind=MERGE)
    assert code == 200, changed
    check(after, changed["spec"])
    if "ExternalName" not in (before, after):
        assert changed["spec"]["clusterIP"] == made["spec"]["clusterIP"]


@pytest.mark.parametrize("before", ["ClusterIP", "NodePort", "LoadBalancer"])
async def test_an_address_cannot_be_given_up(api: Any, service: Callable[..., Any], before: str) -> None:
    await api("POST", PATH, service(type=before))
    code, status = await api("PUT", f"{PATH}/web", service(clusterIP="None"))
    assert code == 422
    assert "spec.clusterIPs[0]: Invalid value: [" in status["message"]
    assert "may not change once set" in status["message"]


@pytest.mark.parametrize("first", ["IPv4", "IPv6"])
async def test_a_second_family_comes_and_goes_but_the_first_stays(
    api: Any, service: Callable[..., Any], first: str
) -> None:
    second = {"IPv4": "IPv6", "IPv6": "IPv4"}[first]
    _, single = await api("POST", PATH, service(ipFamilies=[first]))
    assert (single["spec"]["ipFamilies"], len(single["spec"]["clusterIPs"])) == ([first], 1)
    patch = {"spec": {"ipFamilyPolicy": "RequireDualStack"}}
    _, dual = await api("PATCH", f"{PATH}/web", patch, kind=MERGE)
    assert dual["spec"]["ipFamilies"] == [first, second]
    assert dual["spec"]["clusterIPs"][0] == single["spec"]["clusterIP"] == dual["spec"]["clusterIP"]
    patch = {"spec": {"ipFamilyPolicy": "SingleStack"}}
    _, again = await api("PATCH", f"{PATH}/web", patch, kind=MERGE)
    assert again["spec"]["ipFamilies"] == [first]
    assert again["spec"]["clusterIPs"] == single["spec"]["clusterIPs"]


async def test_a_port_keeps_its_node_port_wherever_it_moves(api: Any, service: Callable[..., Any]) -> None:
    ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2}, {"name": "c", "port": 2, "protocol": "UDP"}]
    _, made = await api("POST", PATH, service(type="NodePort", ports=deepcopy(ports)))
    numbers = {port["name"]: port["nodePort"] for port in made["spec"]["ports"]}
    assert len(set(numbers.values())) == 3
    moved = [ports[2], ports[0], {"name": "d", "port": 9}]
    _, after = await api("PUT", f"{PATH}/web", service(type="NodePort", ports=deepcopy(moved)))
    found = {port["name"]: port["nodePort"] for port in after["spec"]["ports"]}
    assert (found["a"], found["c"]) == (numbers["a"], numbers["c"])
    assert found["d"] not in (numbers["a"], numbers["c"])


async def test_what_a_deleted_service_held_is_free_at_once(api: Any, service: Callable[..., Any]) -> None:
    fixed = {"type": "NodePort", "clusterIP": "10.96.0.7", "ports": [{"port": 1, "nodePort": 30007}]}
    for name in ("a", "b", "c"):
        assert (await api("POST", PATH, service(name, **deepcopy(fixed))))[0] == 201
        assert (await api("POST", PATH, service("late", **deepcopy(fixed))))[0] == 422
        assert (await api("DELETE", f"{PATH}/{name}"))[0] == 200


async def test_a_refused_change_leaves_everything_as_it_was(
    api: Any, server: ApiServer, service: Callable[..., Any]
) -> None:
    _, other = await api("POST", PATH, service("other", type="NodePort"))
    _, made = await api("POST", PATH, service(type="NodePort"))
    revision = server.revision
    taken = other["spec"]["ports"][0]["nodePort"]
    refused: list[Spec] = [
        {"ports": [{"port": 80, "nodePort": taken}]},
        {"ports": [{"port": 0}]},
        {"type": "Wrong"},
        {"clusterIP": other["spec"]["clusterIP"], "clusterIPs": [other["spec"]["clusterIP"]]},
        {"sessionAffinity": "Sometimes"},
        {"externalIPs": ["not an address"]},
        {"ipFamilies": ["IPv6"], "clusterIPs": ["192.0.2.1"]},
    ]
    for spec in refused:
        code, status = await api("PATCH", f"{PATH}/web", {"spec": spec}, kind=MERGE)
        assert (code, status["reason"]) == (422, "Invalid"), spec
    assert server.revision == revision
    assert await api("GET", f"{PATH}/web") == (200, made)


async def test_affinity_keeps_and_loses_its_timeout(api: Any, service: Callable[..., Any]) -> None:
    _, made = await api("POST", PATH, service(sessionAffinity="ClientIP"))
    assert made["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    timeout = {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
    _, after = await api("PATCH", f"{PATH}/web", {"spec": timeout}, kind=MERGE)
    assert after["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 60}}
    _, none = await api("PATCH", f"{PATH}/web", {"spec": {"sessionAffinity": "None"}}, kind=MERGE)
    assert "sessionAffinityConfig" not in none["spec"]
