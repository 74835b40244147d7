"""What holds for any write: repeating it changes nothing, concurrent ones do not overwrite each other."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kpng.lab.apiserver import ApiServer

PATH = "/api/v1/namespaces/default/services"
PORTS = st.lists(
    st.fixed_dictionaries(
        {"port": st.integers(1, 65535)},
        optional={
            "protocol": st.sampled_from(["TCP", "UDP", "SCTP"]),
            "targetPort": st.sampled_from([0, 80, "http"]),
        },
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda port: port["port"],
).map(lambda ports: [port | {"name": f"p{index}"} for index, port in enumerate(ports)])
SERVICE_SPECS = st.fixed_dictionaries(
    {"ports": PORTS, "type": st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"])},
    optional={
        "selector": st.dictionaries(st.sampled_from("abc"), st.sampled_from("12")),
        "sessionAffinity": st.sampled_from(["None", "ClientIP"]),
        "internalTrafficPolicy": st.sampled_from(["Cluster", "Local"]),
        "ipFamilyPolicy": st.sampled_from(["SingleStack", "PreferDualStack", "RequireDualStack"]),
        "publishNotReadyAddresses": st.booleans(),
    },
)
SLICES = st.fixed_dictionaries(
    {"addressType": st.just("IPv4")},
    optional={
        "ports": st.none() | st.lists(st.fixed_dictionaries({}, optional={"port": st.integers(1, 9)}), max_size=1),
        "endpoints": st.none()
        | st.lists(
            st.fixed_dictionaries(
                {"addresses": st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2"]), min_size=1, unique=True)},
                optional={"conditions": st.fixed_dictionaries({}, optional={"ready": st.none() | st.booleans()})},
            ),
            max_size=3,
        ),
    },
)


def service(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}


def check_that_repeating_changes_nothing(thing: dict[str, Any]) -> None:
    server = ApiServer()
    server.load([thing])
    (stored,) = server.objects(thing["kind"])
    revision = server.revision
    server.load([thing])
    server.load([stored])
    assert server.revision == revision
    assert server.objects(thing["kind"]) == [stored]


@given(SERVICE_SPECS)
def test_services_are_stable(spec: dict[str, Any]) -> None:
    check_that_repeating_changes_nothing(service(spec))


@given(SLICES)
def test_slices_are_stable(fields: dict[str, Any]) -> None:
    head = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "web-1"}}
    check_that_repeating_changes_nothing(head | fields)


@given(SERVICE_SPECS)
def test_what_was_given_is_kept(spec: dict[str, Any]) -> None:
    server = ApiServer()
    server.load([service(spec)])
    (stored,) = server.objects("Service")
    kept = stored["spec"]
    for field, value in spec.items():
        if field != "ports":
            assert kept[field] == value
    for given_port, port in zip(spec["ports"], kept["ports"], strict=True):
        assert port["targetPort"] == (given_port.get("targetPort") or given_port["port"])
        assert port["protocol"] == given_port.get("protocol", "TCP")


@given(SERVICE_SPECS)
def test_load_does_not_touch_what_it_is_given(spec: dict[str, Any]) -> None:
    thing = service(spec)
    text = repr(thing)
    ApiServer().load([thing])
    assert repr(thing) == text


async def increment(api: Any) -> int:
    """Add one to a counter in an annotation, as a client with optimistic locking; returns the tries it took."""
    tries = 0
    while True:
        tries += 1
        _, thing = await api("GET", f"{PATH}/web")
        await asyncio.sleep(0)
        annotations = thing["metadata"].setdefault("annotations", {"count": "0"})
        annotations["count"] = str(int(annotations["count"]) + 1)
        code, _ = await api("PUT", f"{PATH}/web", thing)
        if code == 200:
            return tries
        assert code == 409


async def test_concurrent_updates_lose_nothing(api: Any, server: ApiServer) -> None:
    server.load([service({"ports": [{"port": 80}]})])
    tries = await asyncio.gather(*(increment(api) for _ in range(25)))
    (stored,) = server.objects("Service")
    assert stored["metadata"]["annotations"]["count"] == "25"
    assert sum(tries) > 25, "no two of them ever met"


async def test_concurrent_creates_have_one_winner(api: Any) -> None:
    answers = await asyncio.gather(*(api("POST", PATH, service({"ports": [{"port": 80}]})) for _ in range(10)))
    assert sorted(code for code, _ in answers) == [201] + [409] * 9


async def test_concurrent_creates_never_share_an_address(api: Any, server: ApiServer) -> None:
    things = [service({"ports": [{"port": 80}]}) | {"metadata": {"generateName": "web-"}} for _ in range(40)]
    answers = await asyncio.gather(*(api("POST", PATH, thing) for thing in things))
    assert {code for code, _ in answers} == {201}
    assert len({thing["spec"]["clusterIP"] for thing in server.objects("Service")}) == 40
