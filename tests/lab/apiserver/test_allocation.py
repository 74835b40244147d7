"""The allocator under random use: never the same thing twice, nothing lost."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kpng.lab.apiserver import ApiError, ApiServer

POLICIES = ["SingleStack", "PreferDualStack", "RequireDualStack"]
SPECS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
        "ports": st.lists(
            st.builds(
                lambda number, protocol: {
                    "name": f"p{number}-{protocol.lower()}",
                    "port": number,
                    "protocol": protocol,
                },
                st.integers(1, 3),
                st.sampled_from(["TCP", "UDP"]),
            ),
            min_size=1,
            max_size=3,
            unique_by=lambda port: port["name"],
        ),
    },
    optional={
        "clusterIP": st.sampled_from(["10.96.0.1", "10.96.0.2", "fd00::1", "None"]),
        "ipFamilyPolicy": st.sampled_from(POLICIES),
        "externalTrafficPolicy": st.sampled_from(["Cluster", "Local"]),
    },
)
STEPS = st.lists(st.tuples(st.sampled_from("abcd"), st.none() | SPECS), max_size=15)


def service(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    spec = spec | ({"externalName": "example.com"} if spec["type"] == "ExternalName" else {})
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def fresh() -> ApiServer:
    return ApiServer(service_cidrs=["10.96.0.0/29", "fd00::/125"], node_ports=range(30000, 30012))


def perform(server: ApiServer, steps: list[tuple[str, dict[str, Any] | None]]) -> None:
    """Carry out the steps; some are refused: no such Service, invalid, nothing left to give out."""
    codes = set()
    for name, spec in steps:
        try:
            if spec is None:
                server.delete({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}})
            else:
                server.load([service(name, spec)])
        except ApiError as error:
            codes.add(error.code)
    assert codes <= {404, 422, 500}


def held(server: ApiServer) -> Counter[Any]:
    """Everything that Services hold, and how many times."""
    found: Counter[Any] = Counter()
    for thing in server.objects("Service"):
        spec = thing["spec"]
        found.update(address for address in spec.get("clusterIPs", ()) if address != "None")
        found.update((port["protocol"], port["nodePort"]) for port in spec["ports"] if "nodePort" in port)
        found.update([("TCP", spec["healthCheckNodePort"])] if "healthCheckNodePort" in spec else [])
    return found


@given(STEPS)
def test_nothing_is_held_twice(steps: list[tuple[str, dict[str, Any] | None]]) -> None:
    server = fresh()
    perform(server, steps)
    assert [item for item, count in held(server).items() if count > 1] == []


@given(STEPS)
def test_services_have_what_their_type_promises(steps: list[tuple[str, dict[str, Any] | None]]) -> None:
    server = fresh()
    perform(server, steps)
    for thing in server.objects("Service"):
        spec = thing["spec"]
        external = spec["type"] in ("NodePort", "LoadBalancer")
        assert all(("nodePort" in port) == external for port in spec["ports"])
        local = spec["type"] == "LoadBalancer" and spec["externalTrafficPolicy"] == "Local"
        assert ("healthCheckNodePort" in spec) == local
        if spec["type"] == "ExternalName":
            assert not spec.get("clusterIPs")
        elif spec["clusterIP"] != "None":
            assert spec["clusterIP"] == spec["clusterIPs"][0]
            families = [f"IPv{ip_address(address).version}" for address in spec["clusterIPs"]]
            assert families == spec["ipFamilies"]
            assert len(families) == (1 if spec["ipFamilyPolicy"] == "SingleStack" else 2)


@given(STEPS)
def test_deleting_all_frees_all(steps: list[tuple[str, dict[str, Any] | None]]) -> None:
    server = fresh()
    perform(server, steps)
    perform(server, [(name, None) for name in "abcd"])
    everything = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ipFamilyPolicy": "RequireDualStack"}
    for index in range(6):
        server.load([service(f"s{index}", everything | {"ports": [{"port": 1}]})])
    assert len(held(server)) == 6 * 4


def test_numbers_of_the_lower_band_are_picked_last() -> None:
    """So that who asks for a number of that band by name gets it (KEP-3668: 30000 to 30085 by default)."""
    server = ApiServer(node_ports=range(30000, 30032))
    ports = [{"name": f"p{number}", "port": number} for number in range(1, 17)]
    server.load([service("a", {"type": "NodePort", "ports": ports})])
    assert sorted(key[1] for key in held(server) if isinstance(key, tuple)) == list(range(30016, 30032))
    fixed = [{"port": 1, "nodePort": 30000}]
    server.load([service("b", {"type": "NodePort", "ports": fixed})])
    server.load([service("c", {"type": "NodePort", "ports": ports[:15]})])
    taken = sorted(key[1] for key in held(server) if isinstance(key, tuple))
    assert taken == list(range(30000, 30032))


def test_addresses_below_256_are_picked_last() -> None:
    for _ in range(20):
        server = ApiServer()
        server.load([service("a", {"type": "ClusterIP", "ports": [{"port": 1}]})])
        (address,) = server.objects("Service")[0]["spec"]["clusterIPs"]
        assert int(ip_address(address)) - int(ip_address("10.96.0.0")) >= 256
