"""Behaviours by their ids (docs/semantics.md, "Behaviours, one by one"), from the cluster's objects to what a node
is told. What holds for the choice among candidates alone is in test_choice.py, and what for one service in
test_answers.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from kpng.localize import LocalView
from kpng.model import Endpoint, LocalNode, PortMapping, Protocol, ServiceKey
from kpng.store import Kind, Store

Object = dict[str, Any]
SERVICE_NAME = "kubernetes.io/service-name"
ZONE = "topology.kubernetes.io/zone"
NEVER_READY: Object = {"ready": False, "serving": False}
DRAINING: Object = {"ready": False, "serving": True, "terminating": True}
PUBLISHED: Object = {
    "ready": True,
    "serving": False,
    "terminating": False,
}  # publishNotReadyAddresses, of a pod not ready
LOAD_BALANCER: Object = {"type": "LoadBalancer", "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}}


def service(name: str = "web", labels: dict[str, str] | None = None, **spec: Any) -> Object:
    """A Service at 10.96.0.1:80; ``status`` may be among the fields."""
    status = spec.pop("status", None)
    return {
        "kind": "Service",
        "metadata": {"namespace": "demo", "name": name, "labels": labels},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}], **spec},
        "status": status,
    }


def pod(address: str, node: str | None = "n1", **fields: Any) -> Object:
    return {"addresses": [address], "nodeName": node, **fields}


def slice_of(
    service_name: str | None, *endpoints: Object, name: str = "web-1", ports: Any = 8080, **fields: Any
) -> Object:
    """An EndpointSlice; ``ports``: a number, or names to numbers."""
    labels = {SERVICE_NAME: service_name} if service_name is not None else None
    of_names = ports.items() if isinstance(ports, dict) else [("", ports)]
    return {
        "kind": "EndpointSlice",
        "metadata": {"namespace": "demo", "name": name, "labels": labels},
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"name": n, "port": p, "protocol": "TCP"} for n, p in of_names],
        **fields,
    }


def node(name: str = "n1", zone: str = "", **parts: Any) -> Object:
    labels = {ZONE: zone} if zone else {}
    return {"kind": "Node", "metadata": {"name": name, "labels": labels, **parts.pop("metadata", {})}, **parts}


def service_cidr(name: str, *cidrs: str) -> Object:
    return {"kind": "ServiceCIDR", "metadata": {"name": name}, "spec": {"cidrs": list(cidrs)}}


def zoned(address: str, *zones: str, **fields: Any) -> Object:
    return pod(address, **fields, hints={"forZones": [{"name": zone} for zone in zones]})


# -- A: which objects count ----------------------------------------------------------------------------------


def test_a1_a_service_handed_to_another_proxy_is_gone_and_comes_back(cluster: Any) -> None:
    cluster.set(service(), slice_of("web", pod("10.1.0.1")))
    view = cluster.view()
    key = ServiceKey("demo", "web")
    assert view.advance(cluster.store.snapshot).changes[key].new is not None
    cluster.set(service(labels={"service.kubernetes.io/service-proxy-name": ""}))
    assert view.advance(cluster.store.snapshot).changes[key].new is None
    cluster.set(service())
    assert cluster.used() == ["10.1.0.1:8080"]


def test_a2_slices_of_a_service_that_is_not_ours_do_nothing(cluster: Any) -> None:
    cluster.set(service(labels={"service.kubernetes.io/service-proxy-name": "x"}), slice_of("web", pod("10.1.0.1")))
    changes = cluster.view().advance(cluster.store.snapshot)
    assert changes.changes == {}
    assert cluster.complaints == []


GONE: list[tuple[str, Object]] = [
    ("headless", {"clusterIP": "None"}),
    ("headless-by-list", {"clusterIP": None, "clusterIPs": ["None"]}),
    ("external-name", {"type": "ExternalName"}),
    ("no-address", {"clusterIP": ""}),
]


@pytest.mark.parametrize("spec", [c[1] for c in GONE], ids=[c[0] for c in GONE])
def test_a6_a_service_that_becomes_one_without_address_has_nothing_left(cluster: Any, spec: Object) -> None:
    reached: Object = {"externalIPs": ["198.51.100.1"]}
    cluster.set(service(**reached), slice_of("web", pod("10.1.0.1")))
    view = cluster.view()
    view.advance(cluster.store.snapshot)
    cluster.set(service(**reached, **spec))
    (change,) = view.advance(cluster.store.snapshot).changes.values()
    left = change.new.service if change.new else None
    assert left is None or (left.headless and not left.cluster_ips and not left.external_ips)


def test_a7_three_protocols_at_one_number_are_three_ports(cluster: Any) -> None:
    three = [{"name": p.lower(), "port": 53, "protocol": p, "nodePort": 30053} for p in ("TCP", "UDP", "SCTP")]
    of = {"tcp": ("TCP", 1), "udp": ("UDP", 2), "sctp": ("SCTP", 3)}
    ports = [{"name": name, "protocol": proto, "port": number} for name, (proto, number) in of.items()]
    cluster.set(service(type="NodePort", ports=three), slice_of("web", pod("10.1.0.1")) | {"ports": ports})
    told = cluster.told()
    (only,) = told.endpoints.values()
    found = {mapping.protocol: only.port_for(mapping) for mapping in told.service.ports}
    assert found == {Protocol.TCP: 1, Protocol.UDP: 2, Protocol.SCTP: 3}


FAMILIES: list[tuple[str, Object, tuple[str, ...], tuple[str, ...]]] = [
    (
        "ipv6-first",
        {"clusterIPs": ["fd00::1", "10.0.0.1"], "ipFamilies": ["IPv6", "IPv4"]},
        ("10.0.0.1",),
        ("fd00::1",),
    ),
    ("by-ip-alone", {"clusterIP": "fd00::1"}, (), ("fd00::1",)),
    ("family-without-ip", {"clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4", "IPv6"]}, ("10.0.0.1",), ()),
    ("single", {"clusterIPs": ["fd00::1"], "clusterIP": "fd00::1", "ipFamilies": ["IPv6"]}, (), ("fd00::1",)),
]


@pytest.mark.parametrize(("spec", "v4", "v6"), [c[1:] for c in FAMILIES], ids=[c[0] for c in FAMILIES])
def test_a8_cluster_ips_by_family(cluster: Any, spec: Object, v4: tuple[str, ...], v6: tuple[str, ...]) -> None:
    cluster.set(service(**{"clusterIP": None, **spec}))
    found = cluster.told().service.cluster_ips
    assert (found.v4, found.v6) == (v4, v6)
    assert cluster.complaints == []


def test_a9_outside_addresses_keep_their_family_and_bad_ones_are_named(cluster: Any) -> None:
    ingress = [{"ip": "203.0.113.1"}, {"ip": "2001:db8::1"}, {"ip": "203.0.113"}]
    cluster.set(
        service(
            type="LoadBalancer",
            externalIPs=["198.51.100.1", "2001:db8::2", "nonsense"],
            loadBalancerSourceRanges=["192.0.2.0/24", "2001:db8:9::/48", "192.0.2.0"],
            status={"loadBalancer": {"ingress": ingress}},
        )
    )
    of = cluster.told().service
    assert of.external_ips.all() == ("198.51.100.1", "2001:db8::2")
    assert of.load_balancer_ips.all() == ("203.0.113.1", "2001:db8::1")
    assert of.source_ranges == ("192.0.2.0/24", "2001:db8:9::/48")
    assert cluster.complaints == [
        "Service demo/web: spec.externalIPs[2]: 'nonsense' is not an IP address",
        "Service demo/web: spec.loadBalancerSourceRanges[2]: '192.0.2.0' is not a CIDR",
        "Service demo/web: status.loadBalancer.ingress[2].ip: '203.0.113' is not an IP address",
    ]


@pytest.mark.parametrize("counts", [True, False])
def test_a10_external_ips_count_only_where_they_may(make_cluster: Callable[..., Any], counts: bool) -> None:
    """And where they do not, a policy for outside traffic has nothing to say (A15)."""
    cluster = make_cluster(external_ips=counts)
    reached: Object = {"externalIPs": ["198.51.100.1"], "externalTrafficPolicy": "Local"}
    cluster.set(service(**reached), slice_of("web", pod("10.1.0.2", "n2")))
    told = cluster.told()
    assert bool(told.service.external_ips) is counts
    assert told.service.external_traffic_local is counts
    assert cluster.used("short_circuit") == (["10.1.0.2:8080"] if counts else [])


def test_a11_leading_zeros_everywhere(cluster: Any) -> None:
    cluster.set(
        service(
            type="LoadBalancer",
            clusterIP="010.096.000.001",
            externalIPs=["198.051.100.001"],
            loadBalancerSourceRanges=["192.000.002.000/24", "2001:0db8::/32"],
            status={"loadBalancer": {"ingress": [{"ip": "203.000.113.001"}]}},
        ),
        slice_of("web", pod("010.001.000.001")),
    )
    of = cluster.told().service
    assert of.cluster_ips.v4 + of.external_ips.v4 + of.load_balancer_ips.v4 == (
        "10.96.0.1",
        "198.51.100.1",
        "203.0.113.1",
    )
    assert of.source_ranges == ("192.0.2.0/24", "2001:db8::/32")
    assert cluster.used() == ["10.1.0.1:8080"]


MODES: list[tuple[str, Object, bool]] = [
    ("none", {"ip": "203.0.113.1"}, True),
    ("null", {"ip": "203.0.113.1", "ipMode": None}, True),
    ("vip", {"ip": "203.0.113.1", "ipMode": "VIP"}, True),
    ("proxy", {"ip": "203.0.113.1", "ipMode": "Proxy"}, False),
    ("host-name", {"hostname": "lb.example"}, False),
    ("empty", {"ip": "", "hostname": "lb.example"}, False),
]


@pytest.mark.parametrize(("ingress", "counts"), [c[1:] for c in MODES], ids=[c[0] for c in MODES])
def test_a12_which_ingress_is_ours(cluster: Any, ingress: Object, counts: bool) -> None:
    """The health check of a load balancer that proxies stays: A14 asks for nothing of this."""
    local: Object = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 32000}
    cluster.set(service(type="LoadBalancer", status={"loadBalancer": {"ingress": [ingress]}}, **local))
    of = cluster.told().service
    assert of.load_balancer_ips.v4 == (("203.0.113.1",) if counts else ())
    assert of.health_check_node_port == 32000


def test_a13_source_ranges_are_trimmed_and_the_annotation_is_not_read(cluster: Any) -> None:
    annotation = {"service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8"}
    plain = service(**LOAD_BALANCER)
    plain["metadata"]["annotations"] = annotation
    cluster.set(plain)
    assert cluster.told().service.source_ranges == ()
    cluster.set(service(**LOAD_BALANCER, loadBalancerSourceRanges=["  192.0.2.7/24 ", "0.0.0.0/0"]))
    assert cluster.told().service.source_ranges == ("0.0.0.0/0", "192.0.2.0/24")


CHECKED: list[tuple[Object, int]] = [
    ({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}, 32000),
    ({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}, 0),
    ({"type": "LoadBalancer"}, 0),
    ({"type": "NodePort", "externalTrafficPolicy": "Local"}, 0),
    ({"externalIPs": ["198.51.100.1"], "externalTrafficPolicy": "Local"}, 0),
]


@pytest.mark.parametrize(("spec", "expected"), CHECKED)
def test_a14_health_checks_are_for_load_balancers_with_the_local_policy(
    cluster: Any, spec: Object, expected: int
) -> None:
    cluster.set(service(**spec, healthCheckNodePort=32000))
    assert cluster.told().service.health_check_node_port == expected


REACH: list[tuple[str, Object, bool]] = [
    ("cluster-ip-alone", {}, False),
    ("external-ip", {"externalIPs": ["198.51.100.1"]}, True),
    ("node-port", {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}, True),
    ("balancer-without-ip-or-node-port", {"type": "LoadBalancer"}, False),
    ("balancer", LOAD_BALANCER, True),
]


@pytest.mark.parametrize(("spec", "reached"), [c[1:] for c in REACH], ids=[c[0] for c in REACH])
def test_a15_a16_short_circuits_need_a_way_in(cluster: Any, spec: Object, reached: bool) -> None:
    cluster.set(
        service(**spec, externalTrafficPolicy="Local", internalTrafficPolicy="Local"),
        slice_of("web", pod("10.1.0.1", "n1"), pod("10.1.0.2", "n2")),
    )
    assert cluster.used("internal") == ["10.1.0.1:8080"]
    assert cluster.used("short_circuit") == (["10.1.0.1:8080", "10.1.0.2:8080"] if reached else [])
    policy = cluster.told().service.external_traffic_local
    assert cluster.used("external") == (["10.1.0.1:8080"] if policy else ["10.1.0.1:8080", "10.1.0.2:8080"])


def test_a16_without_the_local_policy_nothing_is_short_circuited(cluster: Any) -> None:
    cluster.set(service(**LOAD_BALANCER, externalTrafficPolicy="Cluster"), slice_of("web", pod("10.1.0.1")))
    assert cluster.used("external") == ["10.1.0.1:8080"]
    assert cluster.used("short_circuit") == []


def test_a17_slices_that_belong_nowhere_or_hold_names(cluster: Any) -> None:
    cluster.set(
        service(),
        slice_of(None, pod("10.1.0.1"), name="stray"),
        slice_of("web", pod("db.example"), name="names", addressType="FQDN"),
        slice_of("web", pod("10.1.0.2"), name="fine"),
    )
    assert cluster.used() == ["10.1.0.2:8080"]
    assert cluster.complaints == [
        "EndpointSlice demo/stray: metadata.labels: no kubernetes.io/service-name, so it belongs to no service"
    ]


def test_a17_an_address_of_the_other_family_is_left_out_and_named(cluster: Any) -> None:
    cluster.set(service(), slice_of("web", pod("fd00::1"), pod("10.1.0.2")))
    assert cluster.used() == ["10.1.0.2:8080"]
    assert cluster.complaints == [
        "EndpointSlice demo/web-1: endpoints[0].addresses[0]: fd00::1 is not of addressType IPv4"
    ]


def test_a17_a_slice_of_another_namespace_is_not_used(cluster: Any) -> None:
    elsewhere = slice_of("web", pod("10.1.0.1"))
    elsewhere["metadata"]["namespace"] = "other"
    cluster.set(service(), elsewhere)
    assert cluster.used() == []


def test_a18_only_the_first_address_and_never_none(cluster: Any) -> None:
    cluster.set(
        service(),
        slice_of("web", {"addresses": ["10.1.0.1", "10.1.0.2"]}, {"addresses": []}, {"addresses": None}),
    )
    assert cluster.used() == ["10.1.0.1:8080"]
    assert [line.rpartition(": ")[2] for line in cluster.complaints] == ["not set", "not set"]


STATES: list[tuple[str, Object | None, bool]] = [
    ("nil", None, True),
    ("empty", {}, True),
    ("null", {"ready": None, "serving": None, "terminating": None}, True),
    ("B5-not-ready-though-serving", {"ready": False, "serving": True}, False),
    ("B5-not-ready-serving-unknown", {"ready": False}, False),
    ("published-though-not-ready", PUBLISHED, True),
    ("published-though-terminating", PUBLISHED | {"terminating": True}, True),
    ("fallback", DRAINING, True),
    ("fallback-serving-unknown", {"ready": False, "terminating": True}, True),
    ("B5-gone", {"ready": False, "serving": False, "terminating": True}, False),
]


@pytest.mark.parametrize(("conditions", "counts"), [c[1:] for c in STATES], ids=[c[0] for c in STATES])
def test_a19_conditions(cluster: Any, conditions: Object | None, counts: bool) -> None:
    cluster.set(service(), slice_of("web", pod("10.1.0.1", conditions=conditions)))
    assert cluster.used() == (["10.1.0.1:8080"] if counts else [])
    assert cluster.told().service.ports[0].available == (1 if counts else 0)


def test_a19_an_endpoint_that_is_published_wins_over_one_that_drains(cluster: Any) -> None:
    cluster.set(
        service(), slice_of("web", pod("10.1.0.1", conditions=PUBLISHED), pod("10.1.0.2", conditions=DRAINING))
    )
    assert cluster.used() == ["10.1.0.1:8080"]


NAMED: list[Object] = [{"name": "http", "port": 80, "targetPort": "web"}]


def test_a20_a_named_target_port_is_another_number_on_each_endpoint(cluster: Any) -> None:
    """During a rolling update that changes a container's port: one slice for each number."""
    cluster.set(
        service(ports=NAMED),
        slice_of("web", pod("10.1.0.1"), name="old", ports={"http": 8080}),
        slice_of("web", pod("10.1.0.2"), name="new", ports={"http": 9090}),
    )
    assert cluster.used() == ["10.1.0.1:8080", "10.1.0.2:9090"]
    cluster.delete(slice_of("web", name="old"))
    assert cluster.used() == ["10.1.0.2:9090"]


def test_a20_ports_of_one_service_in_several_slices(cluster: Any) -> None:
    """Each port has the endpoints of the slices that carry it, and of no other."""
    cluster.set(
        service(ports=[*NAMED, {"name": "admin", "port": 81}, {"name": "none", "port": 82}]),
        slice_of("web", pod("10.1.0.1"), name="a", ports={"http": 8080}),
        slice_of("web", pod("10.1.0.1"), pod("10.1.0.2"), name="b", ports={"admin": 8081}),
        slice_of("web", pod("10.1.0.3"), name="c", ports={"http": 8080, "admin": 8081, "other": 1}),
    )
    told = cluster.told()
    assert carriers(told.endpoints.values(), told.service.ports[0]) == ["10.1.0.1", "10.1.0.3"]
    assert carriers(told.endpoints.values(), told.service.ports[1]) == ["10.1.0.1", "10.1.0.2", "10.1.0.3"]
    assert [port.available for port in told.service.ports] == [1, 1, 0]


def carriers(endpoints: Iterable[Endpoint], mapping: PortMapping) -> list[str]:
    return sorted(each.addresses.v4[0] for each in endpoints if each.port_for(mapping))


def test_a20_numbers_never_match_and_protocols_must(cluster: Any) -> None:
    cluster.set(
        service(ports=[{"name": "http", "port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}]),
        slice_of("web", pod("10.1.0.1"), ports={"web": 8080, "dns": 53}),
    )
    assert cluster.used() == []
    assert [port.available for port in cluster.told().service.ports] == [0, 0]


def test_a20_a_port_without_number_is_none(cluster: Any) -> None:
    ports = [{"name": "", "port": None, "protocol": "TCP"}]
    cluster.set(service(), slice_of("web", pod("10.1.0.1")) | {"ports": ports})
    assert cluster.used() == []


def test_a20_without_a_name_it_is_the_empty_name_as_the_api_defaults_it(cluster: Any) -> None:
    """An API server never presents a port without a name; in a file it is what the API server would make of it."""
    cluster.set(service(), slice_of("web", pod("10.1.0.1")) | {"ports": [{"port": 8080}]})
    assert cluster.used() == ["10.1.0.1:8080"]


def test_a21_an_endpoint_of_no_node_is_nowhere_local(cluster: Any) -> None:
    cluster.set(service(internalTrafficPolicy="Local"), slice_of("web", pod("10.1.0.1", None)))
    for name in ("n1", "n2", ""):
        assert cluster.used(node=name) == []
    assert cluster.told().service.ports[0].available == 1  # somewhere: so it is dropped, not rejected


A22: list[tuple[str, Object | None, Object | None, list[str]]] = [
    ("both-ready", None, None, ["10.1.0.1:8080"]),
    ("terminating-first", DRAINING, None, ["10.1.0.1:8080"]),
    ("terminating-second", None, DRAINING, ["10.1.0.1:8080"]),
    ("both-terminating", DRAINING, DRAINING, ["10.1.0.1:8080"]),
    ("not-ready-wins-over-terminating", DRAINING, NEVER_READY, []),
]


@pytest.mark.parametrize(("first", "second", "expected"), [c[1:] for c in A22], ids=[c[0] for c in A22])
def test_a22_an_address_in_two_slices(
    cluster: Any, first: Object | None, second: Object | None, expected: list[str]
) -> None:
    """A pod's address given to another pod at once: what runs counts, not what goes."""
    cluster.set(
        service(),
        slice_of("web", pod("10.1.0.1", conditions=first), name="a"),
        slice_of("web", pod("10.1.0.1", conditions=second), name="b"),
    )
    assert cluster.used() == expected


def test_a22_the_copy_that_counts_says_on_which_node(cluster: Any) -> None:
    cluster.set(
        service(internalTrafficPolicy="Local"),
        slice_of("web", pod("10.1.0.1", "n2", conditions=DRAINING), name="a"),
        slice_of("web", pod("10.1.0.1", "n1"), name="b"),
    )
    assert cluster.used(node="n1") == ["10.1.0.1:8080"]
    assert cluster.used(node="n2") == []


def test_a22_one_of_two_slices_goes(cluster: Any) -> None:
    cluster.set(service(), slice_of("web", pod("10.1.0.1"), name="a"), slice_of("web", pod("10.1.0.1"), name="b"))
    cluster.delete(slice_of("web", name="a"))
    assert cluster.used() == ["10.1.0.1:8080"]
    cluster.delete(slice_of("web", name="b"))
    assert cluster.used() == []


def test_a23_what_says_nothing_new_is_no_change(cluster: Any) -> None:
    cluster.set(service(), slice_of("web", pod("10.1.0.1")))
    view = cluster.view()
    view.advance(cluster.store.snapshot)
    touched = service(labels={"app": "web"}, sessionAffinity="None")
    touched["metadata"]["resourceVersion"] = "99"
    cluster.set(touched, slice_of("web", pod("10.1.0.1")))
    assert view.advance(cluster.store.snapshot) is None
    cluster.set(slice_of("web", pod("10.1.0.2")))
    cluster.set(slice_of("web", pod("10.1.0.1")))
    assert view.advance(cluster.store.snapshot) is None


def test_a23_a_slice_port_without_protocol_is_tcp(cluster: Any) -> None:
    cluster.set(service(), slice_of("web", pod("10.1.0.1")) | {"ports": [{"name": "", "port": 8080}]})
    assert cluster.used() == ["10.1.0.1:8080"]


def test_a24_x4_a_slice_whose_label_changes_leaves_its_old_service(cluster: Any) -> None:
    cluster.set(service("web"), service("shop", clusterIP="10.96.0.2"), slice_of("web", pod("10.1.0.1")))
    view = cluster.view()
    view.advance(cluster.store.snapshot)
    cluster.set(slice_of("shop", pod("10.1.0.1")))
    assert (cluster.used(name="web"), cluster.used(name="shop")) == ([], ["10.1.0.1:8080"])
    assert {key.name for key in view.advance(cluster.store.snapshot).changes} == {"web", "shop"}
    cluster.delete(slice_of("shop"))
    assert (cluster.used(name="web"), cluster.used(name="shop")) == ([], [])


def test_a24_x4_a_slice_that_loses_its_label(cluster: Any) -> None:
    cluster.set(service(), slice_of("web", pod("10.1.0.1")))
    cluster.set(slice_of(None, pod("10.1.0.1")))
    assert cluster.used() == []
    cluster.set(slice_of("web", pod("10.1.0.3")))
    assert cluster.used() == ["10.1.0.3:8080"]
    assert cluster.complaints == []


# -- B: choosing -----------------------------------------------------------------------------------------------


def test_b1_b2_when_the_last_ready_endpoint_begins_to_drain_all_that_drain_are_used(cluster: Any) -> None:
    first, second = zoned("10.1.0.1", "za"), zoned("10.1.0.2", "zb", node="n2")
    drained = first | {"conditions": DRAINING}, second | {"conditions": DRAINING}
    cluster.set(node(zone="za"), service(), slice_of("web", first, second))
    assert cluster.used() == ["10.1.0.1:8080"]  # its zone
    cluster.set(slice_of("web", drained[0], second))
    assert cluster.used() == ["10.1.0.2:8080"]
    cluster.set(slice_of("web", *drained))
    assert cluster.used() == ["10.1.0.1:8080", "10.1.0.2:8080"]  # whatever the zone


def test_b3_local_falls_back_to_what_drains_here_though_others_are_ready(cluster: Any) -> None:
    cluster.set(
        service(**LOAD_BALANCER, externalTrafficPolicy="Local"),
        slice_of("web", pod("10.1.0.1", "n1", conditions=DRAINING), pod("10.1.0.2", "n2")),
    )
    assert cluster.used("external") == ["10.1.0.1:8080"]
    assert cluster.used("internal") == cluster.used("short_circuit") == ["10.1.0.2:8080"]
    assert [e.terminating for e in cluster.told().endpoints.values() if e.local] == [True]


def test_b4_rejected_or_dropped(cluster: Any) -> None:
    """Somebody could serve, but not here; then nobody could."""
    local: Object = {"internalTrafficPolicy": "Local"}
    cluster.set(service(**local), slice_of("web", pod("10.1.0.2", "n2", conditions=DRAINING)))
    assert (cluster.used(), cluster.told().service.ports[0].available) == ([], 1)
    cluster.set(slice_of("web", pod("10.1.0.2", "n2", conditions=NEVER_READY)))
    assert (cluster.used(), cluster.told().service.ports[0].available) == ([], 0)


def test_b6_what_the_service_says_of_topology_is_not_read_only_hints_are(cluster: Any) -> None:
    wish = service(trafficDistribution="PreferSameZone")
    wish["metadata"]["annotations"] = {"service.kubernetes.io/topology-mode": "Auto"}
    cluster.set(node(zone="za"), wish, slice_of("web", pod("10.1.0.1", zone="za"), pod("10.1.0.2", zone="zb")))
    assert cluster.used() == ["10.1.0.1:8080", "10.1.0.2:8080"]


def test_b6_b8_prefer_same_node_then_zone_then_all(cluster: Any) -> None:
    """As the controller writes the hints of trafficDistribution PreferSameNode (KEP-3015)."""

    def hinted(address: str, name: str, zone: str) -> Object:
        return pod(address, name, hints={"forNodes": [{"name": name}], "forZones": [{"name": zone}]})

    names = ("n1", "za"), ("n2", "za"), ("n3", "zb")
    cluster.set(*(node(name, zone) for name, zone in [*names, ("n4", "zb"), ("n5", "zc"), ("n6", "")]))
    cluster.set(service(), slice_of("web", *(hinted(f"10.1.0.{i}", *each) for i, each in enumerate(names, 1))))
    everything = ["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080"]
    expected = {"n1": [0], "n2": [1], "n3": [2], "n4": [2], "n5": [0, 1, 2], "n6": [0, 1, 2], "n7": [0, 1, 2]}
    assert {name: [everything.index(a) for a in cluster.used(node=name)] for name in expected} == expected


def test_b7_one_ready_endpoint_without_hints_turns_them_off_for_its_port_only(cluster: Any) -> None:
    cluster.set(
        node(zone="za"),
        service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 81}]),
        slice_of("web", zoned("10.1.0.1", "za"), zoned("10.1.0.2", "zb"), name="hinted", ports={"a": 1, "b": 2}),
        slice_of("web", pod("10.1.0.3"), name="plain", ports={"b": 2}),
    )
    assert cluster.used() == ["10.1.0.1:1", "10.1.0.1:2", "10.1.0.2:2", "10.1.0.3:2"]


def test_b9_what_is_short_circuited_follows_hints_as_internal_traffic_does(cluster: Any) -> None:
    cluster.set(
        node(zone="za"),
        service(**LOAD_BALANCER, externalTrafficPolicy="Local"),
        slice_of("web", zoned("10.1.0.1", "zb"), zoned("10.1.0.2", "za", node="n2")),
    )
    assert cluster.used("internal") == cluster.used("short_circuit") == ["10.1.0.2:8080"]
    assert cluster.used("external") == ["10.1.0.1:8080"]


def test_b10_x5_the_zone_counts_from_whenever_it_is_known(cluster: Any) -> None:
    """Before the Node is there, without a zone, with one, with another; other labels change nothing."""
    cluster.set(service(), slice_of("web", zoned("10.1.0.1", "za"), zoned("10.1.0.2", "zb")))
    view = cluster.view()
    view.advance(cluster.store.snapshot)
    seen = []
    for zone in ("", "za", "zb", ""):
        cluster.set(node(zone=zone))
        view.advance(cluster.store.snapshot)
        seen.append([address.removesuffix(":8080")[-1] for address in cluster.used()])
    assert seen == [["1", "2"], ["1"], ["2"], ["1", "2"]]
    cluster.set(node(metadata={"labels": {"rack": "7"}, "resourceVersion": "8"}))
    assert view.advance(cluster.store.snapshot) is None


def test_k5_another_nodes_zone_is_no_change(cluster: Any) -> None:
    cluster.set(service(), slice_of("web", zoned("10.1.0.1", "za"), zoned("10.1.0.2", "zb")))
    view = cluster.view()
    view.advance(cluster.store.snapshot)
    cluster.set(node("n2", zone="zb"))
    assert view.advance(cluster.store.snapshot) is None


# -- the node itself -------------------------------------------------------------------------------------------


def test_x1_x13_service_cidrs_arrive_at_once_and_two_objects_may_share_one(cluster: Any) -> None:
    view = cluster.view()
    view.advance(cluster.store.snapshot)
    cluster.set(service_cidr("kubernetes", "10.96.0.0/16", "fd00:96::/108"))
    assert view.advance(cluster.store.snapshot).node == LocalNode(
        name="n1", service_cidrs=("10.96.0.0/16", "fd00:96::/108")
    )
    cluster.set(service_cidr("more", "10.96.0.0/16", "10.97.0.0/16"))
    assert view.advance(cluster.store.snapshot).node.service_cidrs[:2] == ("10.96.0.0/16", "10.97.0.0/16")
    cluster.delete(service_cidr("more"))
    assert view.advance(cluster.store.snapshot).node.service_cidrs == ("10.96.0.0/16", "fd00:96::/108")
    cluster.delete(service_cidr("kubernetes"))
    assert view.advance(cluster.store.snapshot).node.service_cidrs == ()


def test_k4_x6_addresses_and_pod_cidrs_that_change_are_told_at_once(cluster: Any) -> None:
    def at(address: str, cidr: str) -> Object:
        return node(status={"addresses": [{"type": "InternalIP", "address": address}]}, spec={"podCIDRs": [cidr]})

    cluster.set(at("192.0.2.1", "10.1.0.0/24"))
    view = cluster.view()
    assert view.advance(cluster.store.snapshot).node.addresses.v4 == ("192.0.2.1",)
    cluster.set(at("192.0.2.2", "10.1.1.0/24"))
    told = view.advance(cluster.store.snapshot).node
    assert (told.addresses.v4, told.pod_cidrs) == (("192.0.2.2",), ("10.1.1.0/24",))


def test_k4_k6_a_node_that_is_deleted_is_remembered(cluster: Any) -> None:
    """Its machine goes on, and so do its node ports; only the zone is no longer known, which uses all endpoints."""
    here = node(
        zone="za",
        status={"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
        spec={"podCIDRs": ["10.1.0.0/24"]},
    )
    cluster.set(here, service(), slice_of("web", zoned("10.1.0.1", "za"), zoned("10.1.0.2", "zb")))
    view = cluster.view()
    before = view.advance(cluster.store.snapshot).node
    cluster.delete(here)
    changes = view.advance(cluster.store.snapshot)
    assert changes.node is None
    assert cluster.used() == ["10.1.0.1:8080", "10.1.0.2:8080"]
    cluster.set(service_cidr("kubernetes", "10.96.0.0/16"))
    told = view.advance(cluster.store.snapshot).node
    assert (told.addresses, told.pod_cidrs, told.eligible) == (before.addresses, before.pod_cidrs, True)
    assert told.service_cidrs == ("10.96.0.0/16",)
    view.follow("n2")
    assert view.advance(cluster.store.snapshot).node == LocalNode(name="n2", service_cidrs=("10.96.0.0/16",))


def test_x18_a_change_of_a_service_of_both_families_is_one(cluster: Any) -> None:
    """What a counter of changes would count: services, not services times families."""
    both = {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"]}
    cluster.set(service(**both))
    view = cluster.view()
    assert len(view.advance(cluster.store.snapshot).changes) == 1
    cluster.set(service(**both, sessionAffinity="ClientIP"))
    assert len(view.advance(cluster.store.snapshot).changes) == 1


async def test_q1_nothing_is_told_before_everything_has_been_seen() -> None:
    """Services without their endpoints would be rejected, a moment after they were served by whoever was before."""
    store = Store()
    first = asyncio.create_task(LocalView(store, "n1").next())
    for kind in Kind:
        await asyncio.sleep(0)
        assert not first.done()
        with store.transaction() as staged:
            staged.replace(kind)
    assert (await first).full
