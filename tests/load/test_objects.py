"""The objects of a shape: what they say, and that an API server and kpng take them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from kpng.kube import objects as kube
from kpng.lab.apiserver import ApiServer
from kpng.load import (
    Pod,
    Shape,
    Site,
    State,
    as_served,
    endpoint_slices,
    namespaces,
    nodes,
    objects,
    service_object,
    services,
    slice_object,
)

SHAPES = [
    Shape(services=3, endpoints=2, nodes=4),
    Shape(services=2, endpoints=250, nodes=7, dual_stack=True, ports=3, hints=True),
    Shape(services=5, endpoints=0, namespaces=2, zones=1, nodes=1),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("full", [False, True])
def test_the_embedded_api_server_takes_them_all(shape: Shape, full: bool) -> None:
    server = ApiServer()
    server.load(as_served(thing, 1) if full else thing for thing in objects(shape))
    kept = {kind: len(server.objects(kind)) for kind in ("Service", "EndpointSlice", "Node")}
    assert kept == {
        "Service": shape.services,
        "EndpointSlice": len(list(endpoint_slices(shape))),
        "Node": shape.nodes,
    }
    assert server.objects("Service")[0]["spec"]["clusterIP"] == shape.cluster_ip(0, "IPv4")


@pytest.mark.parametrize("full", [False, True])
def test_they_are_of_the_types_that_kpng_reads(full: bool) -> None:
    shape = SHAPES[1]
    for made, kind in (
        (services(shape), kube.Service),
        (endpoint_slices(shape), kube.EndpointSlice),
        (nodes(shape), kube.Node),
    ):
        for thing in made:
            encoded = msgspec.json.encode(as_served(thing, 5) if full else thing)
            decoded: Any = msgspec.json.decode(encoded, type=kind)
            assert decoded.metadata.name == thing["metadata"]["name"]


def test_slices_hold_at_most_a_hundred_endpoints() -> None:
    made = list(endpoint_slices(Shape(services=1, endpoints=250, dual_stack=True)))
    assert [(thing["addressType"], len(thing["endpoints"])) for thing in made] == [
        ("IPv4", 100),
        ("IPv6", 100),
        ("IPv4", 100),
        ("IPv6", 100),
        ("IPv4", 50),
        ("IPv6", 50),
    ]
    assert len({thing["metadata"]["name"] for thing in made}) == 6


def test_a_service_without_endpoints_has_one_empty_slice() -> None:
    (made,) = endpoint_slices(Shape(services=1, endpoints=0))
    assert made["endpoints"] == []


def test_no_controller_has_a_reason_to_make_slices_of_its_own() -> None:
    service = service_object(Shape(), 0)
    assert "selector" not in service["spec"]
    (made, *_) = endpoint_slices(Shape())
    assert made["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "kpng-load",
        "app.kubernetes.io/instance": "kpng-load",
        "endpointslice.kubernetes.io/managed-by": "kpng-load",
        "kubernetes.io/service-name": "kpng-load-00000",
    }


def test_an_endpoint_says_where_it_is() -> None:
    shape = Shape(services=1, endpoints=2, zones=2, nodes=2, hints=True)
    (made,) = endpoint_slices(shape)
    second = made["endpoints"][1]
    assert second["addresses"] == [shape.pod_address(1, "IPv4")]
    assert second["nodeName"] == "kpng-load-node-0001"
    assert second["zone"] == "zone-1"
    assert second["hints"] == {"forZones": [{"name": "zone-1"}]}
    assert second["conditions"] == {"ready": True, "serving": True, "terminating": False}
    assert second["targetRef"]["name"] == shape.pod_name(0, 1)


@pytest.mark.parametrize(
    ("state", "conditions"),
    [
        (State.STARTING, {"ready": False, "serving": False, "terminating": False}),
        (State.TERMINATING, {"ready": False, "serving": True, "terminating": True}),
    ],
)
def test_only_ready_endpoints_have_hints(state: State, conditions: dict[str, bool]) -> None:
    made = slice_object(Shape(hints=True), 0, 0, [Pod(0, state)], "IPv4")
    assert made["endpoints"][0]["conditions"] == conditions
    assert "hints" not in made["endpoints"][0]


def test_nodes_without_a_zone_give_their_endpoints_none() -> None:
    shape = Shape(services=1, endpoints=1, sites=(Site("a", ""),), hints=True)
    (made,) = endpoint_slices(shape)
    assert made["endpoints"][0]["nodeName"] == "a"
    assert not {"zone", "hints"} & made["endpoints"][0].keys()
    assert list(nodes(shape)) == []


def test_the_api_server_may_give_out_the_cluster_addresses() -> None:
    assert not {"clusterIP", "clusterIPs"} & service_object(Shape(cluster_ips=False), 0)["spec"].keys()


def test_ports_are_numbered() -> None:
    shape = Shape(services=1, endpoints=1, ports=2)
    (made,) = endpoint_slices(shape)
    wanted = [(port["name"], port["targetPort"]) for port in service_object(shape, 0)["spec"]["ports"]]
    assert (
        wanted == [(port["name"], port["port"]) for port in made["ports"]] == [("port-0", 8080), ("port-1", 8081)]
    )


def test_everything_comes_in_an_order_in_which_it_can_be_created() -> None:
    kinds = [thing["kind"] for thing in objects(Shape(services=2, nodes=2, namespaces=2))]
    assert list(dict.fromkeys(kinds)) == ["Namespace", "Node", "Service", "EndpointSlice"]
    assert Counter(kinds) == {"Namespace": 2, "Node": 2, "Service": 2, "EndpointSlice": 2}
    assert [thing["metadata"]["name"] for thing in namespaces(Shape(namespaces=2))] == [
        "kpng-load-0",
        "kpng-load-1",
    ]


def test_served_objects_have_all_that_an_api_server_adds() -> None:
    shape = Shape(services=1, endpoints=1)
    (made,) = (as_served(thing, 77) for thing in endpoint_slices(shape))
    metadata = made["metadata"]
    assert metadata["resourceVersion"] == "77"
    assert metadata["managedFields"][0]["fieldsV1"]["f:metadata"]["f:labels"]
    assert metadata["ownerReferences"][0]["name"] == shape.service_name(0)
    assert made["endpoints"][0]["targetRef"]["uid"] != metadata["uid"]


def test_served_objects_leave_the_plain_ones_alone() -> None:
    for plain in objects(SHAPES[0]):
        before = msgspec.json.encode(plain)
        assert as_served(plain, 3)["metadata"]["uid"]
        assert msgspec.json.encode(plain) == before
