from __future__ import annotations

from typing import Any

import pytest

from kpng.kube import objects
from kpng.kube.convert import Converter, Filters, NamedSource
from kpng.kube.decode import decode_plain
from kpng.model import EndpointInfo, EndpointPort, EndpointSource, IPSet, Node, Protocol, ServiceKey

LABEL = "kubernetes.io/service-name"
PORTS = (EndpointPort("http", 8080),)


def slice_manifest(*endpoints: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "demo", "name": "web-1", "labels": {LABEL: "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": list(endpoints),
        **fields,
    }


def convert_slice(data: dict[str, Any]) -> tuple[NamedSource | None, list[str]]:
    kube = decode_plain("EndpointSlice", objects.EndpointSlice, data)
    outcome = Converter(Filters(), "f.yaml").slice(kube)
    return outcome.value, [str(problem) for problem in outcome.problems]


def endpoints_of(data: dict[str, Any]) -> tuple[EndpointInfo, ...]:
    named, problems = convert_slice(data)
    assert problems == []
    assert named is not None
    return named.source.endpoints


def test_a_slice_with_everything() -> None:
    endpoint = {
        "addresses": ["10.1.0.5", "10.1.0.6"],
        "conditions": {"ready": False, "serving": True, "terminating": True},
        "hostname": "web-0",
        "nodeName": "n1",
        "zone": "za",
        "targetRef": {"kind": "Pod", "name": "web-abc"},
        "hints": {"forZones": [{"name": "zb"}, {"name": "za"}], "forNodes": [{"name": "n1"}]},
    }
    assert convert_slice(slice_manifest(endpoint)) == (
        NamedSource(
            "web-1",
            EndpointSource(
                ServiceKey("demo", "web"),
                (
                    EndpointInfo(
                        addresses=IPSet(("10.1.0.5",)),
                        ports=PORTS,
                        hostname="web-0",
                        pod_name="web-abc",
                        node="n1",
                        zone="za",
                        ready=False,
                        serving=True,
                        terminating=True,
                        zone_hints=("za", "zb"),
                        node_hints=("n1",),
                    ),
                ),
            ),
        ),
        [],
    )


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (None, (True, True, False)),
        ({}, (True, True, False)),
        ({"ready": None, "serving": None, "terminating": None}, (True, True, False)),
        ({"ready": False}, (False, True, False)),
        ({"ready": True, "serving": False}, (True, False, False)),
        ({"ready": False, "serving": False, "terminating": True}, (False, False, True)),
    ],
)
def test_conditions_and_their_defaults(
    conditions: dict[str, Any] | None, expected: tuple[bool, bool, bool]
) -> None:
    (endpoint,) = endpoints_of(slice_manifest({"addresses": ["10.1.0.5"], "conditions": conditions}))
    assert (endpoint.ready, endpoint.serving, endpoint.terminating) == expected


def test_only_pods_give_a_pod_name() -> None:
    data = slice_manifest({"addresses": ["10.1.0.5"], "targetRef": {"kind": "Node", "name": "n1"}})
    assert endpoints_of(data)[0].pod_name == ""


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([{"port": 80}], (EndpointPort("", 80),)),
        ([{"name": "", "port": 80, "protocol": None}], (EndpointPort("", 80),)),
        ([{"name": "d", "port": 53, "protocol": "UDP"}], (EndpointPort("d", 53, Protocol.UDP),)),
        (
            [{"name": "d", "port": 53, "protocol": "UDP"}, {"name": "d", "port": 54}],
            (EndpointPort("d", 53, Protocol.UDP), EndpointPort("d", 54)),
        ),
    ],
)
def test_slice_ports(ports: list[dict[str, Any]], expected: tuple[EndpointPort, ...]) -> None:
    assert endpoints_of(slice_manifest({"addresses": ["10.1.0.5"]}, ports=ports))[0].ports == expected


@pytest.mark.parametrize("ports", [None, [], [{"name": "all"}]])
def test_without_a_usable_port_there_are_no_endpoints(ports: list[dict[str, Any]] | None) -> None:
    """In kpng's model an endpoint without ports listens on the service's target ports: here that would be wrong."""
    assert endpoints_of(slice_manifest({"addresses": ["10.1.0.5"]}, ports=ports)) == ()


@pytest.mark.parametrize(
    ("address_type", "address", "expected"),
    [
        ("IPv4", "010.001.000.005", IPSet(("10.1.0.5",))),
        ("IPv6", "FD00:0::5", IPSet((), ("fd00::5",))),
        ("IPv4", "::ffff:10.1.0.5", IPSet(("10.1.0.5",))),
    ],
)
def test_addresses_are_normalised(address_type: str, address: str, expected: IPSet) -> None:
    data = slice_manifest({"addresses": [address]}, addressType=address_type)
    assert endpoints_of(data)[0].addresses == expected


def test_host_names_and_headless_slices_are_quietly_left_out() -> None:
    assert convert_slice(slice_manifest({"addresses": ["db.example"]}, addressType="FQDN")) == (None, [])
    metadata = {"name": "x", "labels": {LABEL: "web", "service.kubernetes.io/headless": ""}}
    assert convert_slice(slice_manifest(metadata=metadata)) == (None, [])


def test_null_lists_are_empty_lists() -> None:
    assert endpoints_of(slice_manifest(endpoints=None)) == ()


SUBJECT = "f.yaml: EndpointSlice demo/web-1: "

BAD_ENDPOINTS = [
    (["127.0.0.1"], "endpoints[1].addresses[0]: 127.0.0.1 is a loopback address, which an endpoint may not have"),
    (
        ["169.254.9.9"],
        "endpoints[1].addresses[0]: 169.254.9.9 is a link-local address, which an endpoint may not have",
    ),
    (["224.1.2.3"], "endpoints[1].addresses[0]: 224.1.2.3 is a multicast address, which an endpoint may not have"),
    (["0.0.0.0"], "endpoints[1].addresses[0]: 0.0.0.0 is an unspecified address, which an endpoint may not have"),
    (["pod-1"], "endpoints[1].addresses[0]: 'pod-1' is not an IP address"),
    (["fd00::1"], "endpoints[1].addresses[0]: fd00::1 is not of addressType IPv4"),
    (
        ["::ffff:127.0.0.1"],
        "endpoints[1].addresses[0]: ::ffff:127.0.0.1 is a loopback address, which an endpoint may not have",
    ),
    ([], "endpoints[1].addresses: not set"),
    (None, "endpoints[1].addresses: not set"),
]


@pytest.mark.parametrize(("addresses", "line"), BAD_ENDPOINTS)
def test_a_bad_endpoint_leaves_the_others(addresses: list[str] | None, line: str) -> None:
    data = slice_manifest({"addresses": ["10.1.0.5"]}, {"addresses": addresses}, {"addresses": ["10.1.0.7"]})
    named, problems = convert_slice(data)
    assert problems == [SUBJECT + line]
    assert named is not None
    assert [endpoint.addresses.v4 for endpoint in named.source.endpoints] == [("10.1.0.5",), ("10.1.0.7",)]


@pytest.mark.parametrize(
    ("port", "line"),
    [
        ({"name": "b", "port": 70000}, "ports[1].port: 70000 is not a port number (1 to 65535)"),
        ({"name": "b", "port": 0}, "ports[1].port: 0 is not a port number (1 to 65535)"),
        (
            {"name": "b", "port": 1, "protocol": "tcp"},
            "ports[1].protocol: 'tcp' is not a protocol (TCP, UDP, SCTP)",
        ),
        ({"name": "http", "port": 1}, "ports[1]: a second TCP port named 'http'"),
        ({"name": 'q"; flush', "port": 1}, "ports[1].name: 'q\"; flush' is not a port name"),
        ({"name": "a" * 64, "port": 1}, f"ports[1].name: '{'a' * 64}' is not a port name"),
    ],
)
def test_a_bad_port_leaves_the_others(port: dict[str, Any], line: str) -> None:
    good_port = {"name": "http", "port": 8080}
    named, problems = convert_slice(slice_manifest({"addresses": ["10.1.0.5"]}, ports=[good_port, port]))
    assert problems == [SUBJECT + line]
    assert named is not None
    assert named.source.endpoints[0].ports == PORTS


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"addressType": "IPv5"}, "addressType: 'IPv5' is not known (IPv4, IPv6, FQDN)"),
        ({"addressType": None}, "addressType: '' is not known (IPv4, IPv6, FQDN)"),
        (
            {"metadata": {"namespace": "demo", "name": "web-1"}},
            "metadata.labels: no kubernetes.io/service-name, so it belongs to no service",
        ),
        (
            {"metadata": {"namespace": "demo", "name": "web-1", "labels": {LABEL: "a/../b"}}},
            "metadata.labels[kubernetes.io/service-name]: 'a/../b' is not a Kubernetes name",
        ),
    ],
)
def test_a_slice_that_cannot_be_used(fields: dict[str, Any], line: str) -> None:
    assert convert_slice(slice_manifest({"addresses": ["10.1.0.5"]}, **fields)) == (None, [SUBJECT + line])


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"nodeName": "n\n1"}, r"nodeName: 'n\n1' is not a Kubernetes name"),
        ({"hostname": "$(id)"}, "hostname: '$(id)' is not a Kubernetes name"),
        ({"zone": "a b"}, "zone: 'a b' is not a zone"),
        ({"targetRef": {"kind": "Pod", "name": "a/b"}}, "targetRef.name: 'a/b' is not a Kubernetes name"),
        ({"hints": {"forZones": [{"name": "za"}, {"name": "z;"}]}}, "hints.forZones: 'z;' is not a zone"),
        ({"hints": {"forNodes": [{"name": "n_1"}]}}, "hints.forNodes: 'n_1' is not a Kubernetes name"),
    ],
)
def test_an_odd_name_is_left_out_and_the_endpoint_stays(fields: dict[str, Any], line: str) -> None:
    named, problems = convert_slice(slice_manifest({"addresses": ["10.1.0.5"], **fields}))
    plain, _ = convert_slice(slice_manifest({"addresses": ["10.1.0.5"]}))
    assert problems == [f"{SUBJECT}endpoints[0].{line}"]
    assert named == plain


def convert_node(metadata: dict[str, Any], filters: Filters | None = None) -> tuple[Node | None, list[str]]:
    kube = decode_plain("Node", objects.Node, {"metadata": metadata})
    outcome = Converter(filters or Filters(), "f.yaml").node(kube)
    return outcome.value, [str(problem) for problem in outcome.problems]


LABELS = {"kubernetes.io/hostname": "n1", "topology.kubernetes.io/zone": "za", "beta/x": "y"}


def test_nodes() -> None:
    kept = {"kubernetes.io/hostname": "n1", "topology.kubernetes.io/zone": "za"}
    metadata = {"name": "n1", "labels": LABELS, "annotations": {"a": "b"}}
    assert convert_node(metadata) == (Node(name="n1", zone="za", labels=kept), [])
    filters = Filters(node_labels=("beta/*",), node_annotations=("*",))
    expected = Node(name="n1", zone="za", labels={"beta/x": "y"}, annotations={"a": "b"})
    assert convert_node(metadata, filters) == (expected, [])
    assert convert_node({"name": "n2"}) == (Node(name="n2"), [])
    assert convert_node({"name": "n1", "labels": {"topology.kubernetes.io/zone": 'z"a'}}) == (
        Node(name="n1", labels={"topology.kubernetes.io/zone": 'z"a'}),
        ["f.yaml: Node n1: metadata.labels[topology.kubernetes.io/zone]: 'z\"a' is not a zone"],
    )
    assert convert_node({"labels": {}}) == (None, ["f.yaml: Node ?: metadata.name: not set"])
