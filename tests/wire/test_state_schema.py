"""The state file's schema as a table: every key, with a value of each kind that it must not have."""

from __future__ import annotations

from typing import Any

import pytest

from kpng.wire.statefile import decode_state, schema

# the key's path, a good value, bad values
TABLE: list[tuple[str, object, list[object]]] = [
    ("nodes", [], [{}, "x", 1]),
    ("nodes[].name", "n1", [1, ["n1"], {}]),
    ("nodes[].topology", {"node": "n1"}, ["za", 1, []]),
    ("nodes[].topology.node", "n1", [1, []]),
    ("nodes[].topology.zone", "za", [1, {}]),
    ("nodes[].labels", {"a": "b"}, [["a"], "a", {"a": 1}]),
    ("nodes[].annotations", {"a": None}, [["a"], {"a": []}]),
    ("nodes[].ips", {"v4": ["192.0.2.1"]}, [["192.0.2.1"], "192.0.2.1"]),
    ("nodes[].podcidrs", ["10.1.0.0/24"], ["10.1.0.0/24", [1]]),
    ("nodes[].ineligible", True, ["yes", 1]),
    ("services", [], [{}, "x", 1]),
    ("services[].endpoints", [], [{}, "x"]),
    ("services[].service.namespace", "demo", [1, []]),
    ("services[].service.name", "web", [1, {}]),
    ("services[].service.type", "NodePort", [1, []]),
    ("services[].service.labels", {"a": "b"}, [["a"], {"a": True}]),
    ("services[].service.annotations", {"a": "b"}, ["a", {"a": 1.5}]),
    ("services[].service.ips", {"headless": True}, [[], "10.0.0.1"]),
    ("services[].service.ips.clusterips", {"v4": ["10.0.0.1"]}, [["10.0.0.1"], "10.0.0.1"]),
    ("services[].service.ips.externalips", {"v6": ["fd00::1"]}, [["fd00::1"]]),
    ("services[].service.ips.loadbalancerips", {"v4": None}, [{"v4": "10.0.0.1"}, {"v4": [1]}]),
    ("services[].service.ips.headless", True, ["yes", 1]),
    ("services[].service.ipfilters", [{"sourceranges": ["10.0.0.0/8"]}], [{}, ["10.0.0.0/8"]]),
    ("services[].service.mapip", False, ["no", 0]),
    ("services[].service.ports", [{"port": 80}], [80, {"port": 80}, [80]]),
    ("services[].service.ports[].name", "http", [80]),
    ("services[].service.ports[].protocol", "UDP", [[], {}, 1.5]),
    ("services[].service.ports[].port", 80, ["80", 80.5, []]),
    ("services[].service.ports[].nodeport", 30080, ["30080"]),
    ("services[].service.ports[].targetport", 8080, ["http"]),
    ("services[].service.ports[].targetportname", "http", [8080]),
    ("services[].service.externaltraffictolocal", True, ["Local", 1]),
    ("services[].service.internaltraffictolocal", True, ["Local", 1]),
    ("services[].service.healthchecknodeport", 32000, ["32000"]),
    ("services[].service.sessionaffinity", {"clientip": {}}, ["ClientIP", []]),
    ("services[].service.sessionaffinity.clientip.timeoutseconds", 60, ["60", "1m"]),
    ("services[].endpoints[].namespace", "demo", [1]),
    ("services[].endpoints[].servicename", "web", [1]),
    ("services[].endpoints[].sourcename", "web-x", [1]),
    ("services[].endpoints[].podname", "web-1", [1, []]),
    ("services[].endpoints[].hash", 12, [[], {}]),
    ("services[].endpoints[].endpoint.hostname", "db-0", [0]),
    ("services[].endpoints[].endpoint.ips", {"v4": ["10.1.0.1"]}, [["10.1.0.1"], "10.1.0.1"]),
    ("services[].endpoints[].endpoint.portoverrides", [{"name": "", "port": 1}], ["http=80", [80]]),
    ("services[].endpoints[].endpoint.local", False, ["no"]),
    ("services[].endpoints[].endpoint.scopes", {"internal": True}, [True, []]),
    ("services[].endpoints[].conditions", {"ready": False}, [True, ["ready"]]),
    ("services[].endpoints[].conditions.ready", True, ["True", 1]),
    ("services[].endpoints[].conditions.serving", True, ["True", 1]),
    ("services[].endpoints[].conditions.terminating", False, ["False", 0]),
    ("services[].endpoints[].topology", {"node": "n1"}, ["n1", ["n1"]]),
    ("services[].endpoints[].topology.zone", "za", [1]),
    ("services[].endpoints[].hints", {"zones": ["za"]}, [["za"], "za"]),
    ("services[].endpoints[].hints.zones", ["za"], ["za", [1]]),
    ("services[].endpoints[].hints.nodes", ["n1"], ["n1", [1]]),
]


def document(path: str, value: object) -> dict[str, Any]:
    """The least document with that value at that path."""
    service = {"name": "web"}
    endpoint: dict[str, Any] = {"endpoint": {"ips": {"v4": ["10.1.0.1"]}}}
    port = {"port": 80}
    whole: dict[str, Any] = {
        "nodes": [{"name": "n1"}],
        "services": [{"service": service, "endpoints": [endpoint]}],
    }
    if ".ports[]." in path:
        whole["services"][0]["service"]["ports"] = [port]
    at: Any = whole
    *way, last = path.split(".")
    for step in way:
        at = at.setdefault(step.removesuffix("[]"), {})
        if step.endswith("[]"):
            at = at[0]
    at[last] = value
    return whole


def problems(path: str, value: object) -> list[str]:
    _, found = decode_state(document(path, value), "f.yaml")
    return [problem.field for problem in found]


@pytest.mark.parametrize(("path", "good"), [(path, good) for path, good, _ in TABLE])
def test_a_good_value_is_taken(path: str, good: object) -> None:
    assert problems(path, good) == []


NEEDED = {
    "nodes[].name": "name",
    "services[].service.name": "name",
    "services[].service.ports[].port": "ports[0].port",
    "services[].endpoints[].endpoint.ips": "endpoint.ips",
}


@pytest.mark.parametrize("path", [path for path, _, _ in TABLE])
def test_null_is_as_if_left_out(path: str) -> None:
    found = problems(path, None)
    if path in NEEDED:
        (field,) = found
        assert field.endswith(NEEDED[path])
    else:
        assert found == []


@pytest.mark.parametrize(("path", "bad"), [(path, bad) for path, _, several in TABLE for bad in several])
def test_a_bad_value_is_named_and_costs_no_more_than_its_object(path: str, bad: object) -> None:
    whole = document(path, bad)
    state, found = decode_state(whole, "f.yaml")
    (problem,) = found
    last = path.rpartition(".")[2].removesuffix("[]")
    assert last in problem.field
    assert str(problem).startswith(f"f.yaml: {problem.subject}: ")
    if path.startswith("nodes["):
        assert [str(key) for key in state.services] == ["default/web"]
    if path.startswith("services["):
        assert list(state.nodes) == ["n1"]


def keys_of(shape: type, prefix: str = "") -> set[str]:
    """All paths that the shapes allow."""
    found = set()
    for key, inner in schema._known(shape).items():
        found.add(prefix + key)
        if inner is not None:
            found |= keys_of(inner, f"{prefix}{key}.")
    return found


def test_the_table_has_every_key_of_services_endpoints_and_nodes() -> None:
    allowed = {
        *keys_of(schema.Service, "services[].service."),
        *keys_of(schema.EndpointInfo, "services[].endpoints[]."),
        *keys_of(schema.Node, "nodes[]."),
    }
    table = " ".join(f"{path} {good}" for path, good, _ in TABLE)
    untold = {key for key in allowed if key.rpartition(".")[2] not in table}
    assert untold == {"services[].service.ipfilters.targetips"}


@pytest.mark.parametrize(
    ("path", "field", "hint"),
    [
        ("services[].service.clusterIP", "service.clusterIP", ""),
        ("services[].service.externalTrafficToLocal", "service.externalTrafficToLocal", "externaltraffictolocal"),
        ("services[].endpoints[].topologykeys", "endpoints[0].topologykeys", ""),
        ("services[].endpoints[].podName", "endpoints[0].podName", "podname"),
        ("nodes[].Labels", "Labels", "labels"),
        ("nodes[].topology.region", "topology.region", ""),
    ],
)
def test_a_key_nobody_knows_is_named_and_passed_over(path: str, field: str, hint: str) -> None:
    state, found = decode_state(document(path, "x"), "f.yaml")
    assert [problem.field for problem in found] == [field]
    assert found[0].message == (f"unknown key; did you mean {hint}?" if hint else "unknown key")
    assert len(state.services) == len(state.nodes) == len(state.sources) == 1
