from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kpng.kube import objects
from kpng.kube.convert import Converter, Filters
from kpng.kube.decode import decode_plain
from kpng.model import IPSet, PortMapping, Protocol, Service

SPEC = {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]}


def manifest(
    spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **metadata: Any
) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "demo", "name": "web", **metadata},
        "spec": SPEC | (spec or {}),
        "status": status,
    }


def convert(data: dict[str, Any], filters: Filters | None = None) -> tuple[Service | None, list[str]]:
    kube = decode_plain("Service", objects.Service, data)
    outcome = Converter(filters or Filters(), "f.yaml").service(kube)
    return outcome.value, [str(problem) for problem in outcome.problems]


def good(data: dict[str, Any], filters: Filters | None = None) -> Service:
    service, problems = convert(data, filters)
    assert problems == []
    assert service is not None
    return service


def test_the_simplest_service() -> None:
    assert good(manifest()) == Service(
        namespace="demo",
        name="web",
        cluster_ips=IPSet(("10.96.0.10",)),
        ports=(PortMapping(80, Protocol.TCP, target_port=80),),
    )


def test_a_service_with_everything() -> None:
    spec = {
        "type": "LoadBalancer",
        "clusterIPs": ["10.96.0.10", "fd00::10"],
        "ipFamilies": ["IPv4", "IPv6"],
        "externalIPs": ["198.51.100.9", "2001:db8::9", "198.51.100.1"],
        "externalTrafficPolicy": "Local",
        "internalTrafficPolicy": "Local",
        "healthCheckNodePort": 32000,
        "loadBalancerSourceRanges": [" 192.0.2.0/24 ", "2001:db8::/32"],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}},
        "ports": [
            {"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080},
            {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 5353},
            {"name": "sip", "port": 5060, "protocol": "SCTP"},
        ],
    }
    status = {
        "loadBalancer": {"ingress": [{"ip": "203.0.113.1"}, {"hostname": "lb.example"}, {"ip": "2001:db8::1"}]}
    }
    assert good(manifest(spec, status)) == Service(
        namespace="demo",
        name="web",
        type="LoadBalancer",
        cluster_ips=IPSet(("10.96.0.10",), ("fd00::10",)),
        external_ips=IPSet(("198.51.100.1", "198.51.100.9"), ("2001:db8::9",)),
        load_balancer_ips=IPSet(("203.0.113.1",), ("2001:db8::1",)),
        ports=(
            PortMapping(80, Protocol.TCP, "http", 30080, target_port_name="web"),
            PortMapping(53, Protocol.UDP, "dns", target_port=5353),
            PortMapping(5060, Protocol.SCTP, "sip", target_port=5060),
        ),
        internal_traffic_local=True,
        external_traffic_local=True,
        session_affinity_seconds=600,
        source_ranges=("192.0.2.0/24", "2001:db8::/32"),
        health_check_node_port=32000,
    )


def test_headless_services_keep_their_ports_and_have_no_addresses() -> None:
    for spec in ({"clusterIP": "None"}, {"clusterIPs": ["None"], "clusterIP": None}):
        service = good(manifest(spec | {"externalIPs": ["192.0.2.1"]}))
        assert service.headless
        assert not service.cluster_ips
        assert not service.external_ips
        assert [port.port for port in service.ports] == [80]


def test_external_name_is_nothing_to_proxy_even_with_an_address() -> None:
    assert convert(manifest({"type": "ExternalName", "externalName": "example.com"})) == (None, [])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"clusterIP": "172.030.099.011"}, IPSet(("172.30.99.11",))),
        ({"clusterIP": "fd00:0:0::0010"}, IPSet((), ("fd00::10",))),
        ({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}, IPSet(("10.0.0.1",), ("fd00::1",))),
        ({"clusterIP": "10.0.0.1", "clusterIPs": []}, IPSet(("10.0.0.1",))),
        ({"clusterIP": "fd00::1", "ipFamilies": ["IPv6"]}, IPSet((), ("fd00::1",))),
    ],
)
def test_cluster_ips(spec: dict[str, Any], expected: IPSet) -> None:
    assert good(manifest(spec)).cluster_ips == expected


@pytest.mark.parametrize(
    ("type_", "external_ips", "policy", "effective"),
    [
        ("ClusterIP", [], "Local", False),
        ("ClusterIP", ["192.0.2.1"], "Local", True),
        ("NodePort", [], "Local", True),
        ("LoadBalancer", [], "Local", True),
        ("LoadBalancer", [], "Cluster", False),
        ("NodePort", [], None, False),
    ],
)
def test_external_policy_counts_only_with_a_way_in_from_outside(
    type_: str, external_ips: list[str], policy: str | None, effective: bool
) -> None:
    spec = {
        "type": type_,
        "externalIPs": external_ips,
        "externalTrafficPolicy": policy,
        "healthCheckNodePort": 32000,
    }
    service = good(manifest(spec))
    assert service.external_traffic_local is effective
    assert service.health_check_node_port == (32000 if effective and type_ == "LoadBalancer" else 0)


@pytest.mark.parametrize(
    ("ingress", "expected"),
    [
        ([{"ip": "192.0.2.1", "ipMode": "VIP"}], ("192.0.2.1",)),
        ([{"ip": "192.0.2.1", "ipMode": "Proxy"}], ()),
        ([{"ip": "192.0.2.1", "ipMode": None}], ("192.0.2.1",)),
        ([{"hostname": "x"}], ()),
        ([{"ip": ""}], ()),
        (None, ()),
    ],
)
def test_load_balancer_ips(ingress: list[dict[str, Any]] | None, expected: tuple[str, ...]) -> None:
    status = {"loadBalancer": {"ingress": ingress}}
    assert good(manifest({"type": "LoadBalancer"}, status)).load_balancer_ips.v4 == expected


def test_load_balancer_ips_count_only_for_that_type() -> None:
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    assert not good(manifest({"type": "NodePort"}, status)).load_balancer_ips


@pytest.mark.parametrize(
    ("affinity", "expected"),
    [
        ({}, 0),
        ({"sessionAffinity": "None"}, 0),
        ({"sessionAffinity": "ClientIP"}, 10800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": None}}, 10800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}, 1),
        ({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}, 0),
    ],
)
def test_session_affinity(affinity: dict[str, Any], expected: int) -> None:
    assert good(manifest(affinity)).session_affinity_seconds == expected


def test_every_field_may_be_null() -> None:
    spec = dict.fromkeys(field.encode_name for field in msgspec.structs.fields(objects.ServiceSpec))
    service, problems = convert(manifest(spec, {"loadBalancer": None}, labels=None, annotations=None))
    assert service is None
    assert problems == [
        "f.yaml: Service demo/web: spec.clusterIP: not set; a file source does not allocate addresses"
    ]


# -- labels, filters -------------------------------------------------------------------------------

LABELED = {"labels": {"app": "web", "team/name": "a", "tier": "x"}, "annotations": {"note": "n", "other": "o"}}


@pytest.mark.parametrize(
    ("globs", "kept"),
    [
        ((), set()),
        (("app",), {"app"}),
        (("t*",), {"team/name", "tier"}),
        (("*",), {"app", "team/name", "tier"}),
        (("{app,tier}",), {"app", "tier"}),
        (("t{ier,eam/{name,x}}",), {"tier", "team/name"}),
        (("[!a]*",), {"team/name", "tier"}),
        (("tie?", "ap"), {"tier"}),
    ],
)
def test_labels_are_kept_by_globs(globs: tuple[str, ...], kept: set[str]) -> None:
    service = good(manifest(**LABELED), Filters(service_labels=globs))
    assert set(service.labels) == kept
    assert service.annotations == {}


def test_annotations_are_kept_by_their_own_globs() -> None:
    service = good(manifest(**LABELED), Filters(service_annotations=("n*",)))
    assert (service.labels, service.annotations) == ({}, {"note": "n"})


PROXY_NAME = "service.kubernetes.io/service-proxy-name"
HEADLESS = "service.kubernetes.io/headless"


@pytest.mark.parametrize(
    ("labels", "proxy_name", "wanted"),
    [
        ({}, "", True),
        ({PROXY_NAME: "other"}, "", False),
        ({PROXY_NAME: ""}, "", False),
        ({PROXY_NAME: "mine"}, "mine", True),
        ({PROXY_NAME: "other"}, "mine", False),
        ({}, "mine", False),
        ({HEADLESS: ""}, "", True),
        ({HEADLESS: "", PROXY_NAME: "mine"}, "mine", True),
    ],
)
def test_services_of_other_proxies_are_left_out(labels: dict[str, str], proxy_name: str, wanted: bool) -> None:
    service, problems = convert(manifest(labels=labels), Filters(service_proxy_name=proxy_name))
    assert (service is not None) is wanted
    assert problems == []


def test_selectors_say_the_same_to_the_server() -> None:
    assert Filters().service_selector == f"!{PROXY_NAME}"
    assert Filters(service_proxy_name="mine").service_selector == f"{PROXY_NAME}=mine"
    assert Filters().slice_selector == f"!{HEADLESS}"


# -- bad input: the exact line, and what is left ---------------------------------------------------

LB = {"type": "LoadBalancer"}
INGRESS = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}

BAD = [
    ({"clusterIP": "10.0.0.300"}, "spec.clusterIP: '10.0.0.300' is not an IP address"),
    ({"clusterIP": "10.0.0.1/8"}, "spec.clusterIP: '10.0.0.1/8' is not an IP address"),
    (
        {"clusterIP": "fe80::1%eth0"},
        "spec.clusterIP: 'fe80::1%eth0' has a zone, which a service address cannot have",
    ),
    ({"clusterIP": "127.0.0.1"}, "spec.clusterIP: 127.0.0.1 is a special address, which a service may not have"),
    ({"clusterIP": ""}, "spec.clusterIP: not set; a file source does not allocate addresses"),
    ({"type": "Magic"}, "spec.type: 'Magic' is not a type of Service"),
]


@pytest.mark.parametrize(("spec", "line"), BAD)
def test_a_service_that_cannot_be_used(spec: dict[str, Any], line: str) -> None:
    assert convert(manifest(spec)) == (None, [f"f.yaml: Service demo/web: {line}"])


PARTLY_BAD = [
    (
        {"clusterIPs": ["10.96.0.10", "10.96.0.11"]},
        "spec.clusterIPs[1]: 10.96.0.11 is a second cluster IP of its family",
    ),
    (
        {"clusterIPs": ["10.96.0.10", "fd00::1"], "ipFamilies": ["IPv4"]},
        "spec.clusterIPs[1]: fd00::1 does not fit spec.ipFamilies (IPv4)",
    ),
    ({"externalIPs": ["web.example"]}, "spec.externalIPs[0]: 'web.example' is not an IP address"),
    (
        {"externalIPs": ["169.254.169.254"]},
        "spec.externalIPs[0]: 169.254.169.254 is a special address, which a service may not have",
    ),
    ({"externalIPs": ["::1"]}, "spec.externalIPs[0]: ::1 is a special address, which a service may not have"),
    (
        {"externalIPs": ["224.0.0.1"]},
        "spec.externalIPs[0]: 224.0.0.1 is a special address, which a service may not have",
    ),
    ({"ports": [{"port": 80}, {"port": 70000}]}, "spec.ports[1].port: 70000 is not a port number (1 to 65535)"),
    ({"ports": [{"port": 80}, {"port": 0}]}, "spec.ports[1].port: 0 is not a port number (1 to 65535)"),
    ({"ports": [{"port": 80}, {"name": "x"}]}, "spec.ports[1].port: not set"),
    (
        {"ports": [{"port": 80}, {"port": 81, "protocol": "ICMP"}]},
        "spec.ports[1].protocol: 'ICMP' is not a protocol (TCP, UDP, SCTP)",
    ),
    (
        {"ports": [{"port": 80}, {"port": 81, "targetPort": 99999}]},
        "spec.ports[1].targetPort: 99999 is not a port number (1 to 65535)",
    ),
    (
        {"ports": [{"port": 80}, {"port": 81, "name": 'q"; flush'}]},
        "spec.ports[1].name: 'q\"; flush' is not a port name",
    ),
    (
        {"ports": [{"port": 80}, {"port": 81, "name": "a", "targetPort": "$(id)"}]},
        "spec.ports[1].targetPort: '$(id)' is not a port name",
    ),
    ({"ports": [{"port": 80, "nodePort": -1}]}, "spec.ports[0].nodePort: -1 is not a port number (1 to 65535)"),
    ({"ports": [{"port": 80}, {"name": "b", "port": 80}]}, "spec.ports[1]: a second port 80/TCP b"),
    ({"ports": [{"port": 80}, {"port": 81}]}, "spec.ports[1]: a second port 81/TCP"),
    ({"sessionAffinity": "Cookie"}, "spec.sessionAffinity: 'Cookie' is not known (None, ClientIP)"),
    (
        {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 90000}}},
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 90000 is not between 1 and 86400",
    ),
    (
        {**LB, "loadBalancerSourceRanges": ["192.0.2.0/24", "10.0.0.0/33"]},
        "spec.loadBalancerSourceRanges[1]: '10.0.0.0/33' is not a CIDR",
    ),
    (
        {**LB, "externalTrafficPolicy": "Local", "healthCheckNodePort": 99999},
        "spec.healthCheckNodePort: 99999 is not a port number (1 to 65535)",
    ),
]


@pytest.mark.parametrize(("spec", "line"), PARTLY_BAD)
def test_a_bad_part_leaves_the_rest(spec: dict[str, Any], line: str) -> None:
    service, problems = convert(manifest(spec))
    assert problems == [f"f.yaml: Service demo/web: {line}"]
    assert service is not None
    assert service.cluster_ips.v4 == ("10.96.0.10",)
    assert service.ports[0].port == 80
    assert not service.external_ips


def test_load_balancer_ips_are_not_served_where_no_source_range_is_valid() -> None:
    service, problems = convert(manifest({**LB, "loadBalancerSourceRanges": ["anyone"]}, INGRESS))
    assert problems == [
        "f.yaml: Service demo/web: spec.loadBalancerSourceRanges[0]: 'anyone' is not a CIDR",
        "f.yaml: Service demo/web: spec.loadBalancerSourceRanges: no valid range: "
        "the load-balancer IPs are not served",
    ]
    assert service is not None
    assert not service.load_balancer_ips
    assert service.cluster_ips


@pytest.mark.parametrize(
    ("metadata", "line"),
    [
        ({"name": None}, "f.yaml: Service demo/?: metadata.name: not set"),
        ({"name": ""}, "f.yaml: Service demo/?: metadata.name: not set"),
        ({"name": "a/b"}, "f.yaml: Service demo/a/b: metadata.name: 'a/b' is not a Kubernetes name"),
        ({"name": "a;b"}, "f.yaml: Service demo/a;b: metadata.name: 'a;b' is not a Kubernetes name"),
        ({"namespace": "A"}, "f.yaml: Service A/web: metadata.namespace: 'A' is not a Kubernetes name"),
    ],
)
def test_names_must_be_names(metadata: dict[str, Any], line: str) -> None:
    assert convert(manifest(**metadata)) == (None, [line])


def test_a_left_out_namespace_is_default() -> None:
    assert good(manifest(namespace=None)).namespace == "default"
