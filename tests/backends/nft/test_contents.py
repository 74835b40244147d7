"""From a service to its elements, as nft would show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kpng.backends.nft import contents as contents_module
from kpng.backends.nft.contents import contents, endpoint_numbers, service_number
from kpng.backends.nft.fields import show
from kpng.backends.nft.frontends import frontends
from kpng.backends.nft.layout import MOST_STICKY_ENDPOINTS, Layout, class_name, service_class
from kpng.backends.nft.options import Options
from kpng.model import Endpoint, EndpointPort, Family, IPSet, LocalService, PortMapping, Service

Make = Callable[..., LocalService]


def elements(local: LocalService, family: Family = Family.IPV4, **options: Any) -> dict[str, list[str]]:
    """Elements of a service that owns all its frontends, by set, as text."""
    chosen = Options(**options)
    layout = Layout(family, chosen)
    found = contents(local, frontends(local.service), chosen).get(family, {})
    return {name: [_text(layout, name, *pair) for pair in pairs.items()] for name, pairs in found.items()}


def _text(layout: Layout, name: str, key: bytes, data: bytes) -> str:
    shown = show(layout.sets[name].key, key)
    return f"{shown} : {show(layout.sets[name].data, data)}" if layout.sets[name].data else shown


def test_a_plain_service(make: Make) -> None:
    assert elements(make(pods=(2, 1))) == {
        "cluster_ips": ["10.96.0.7"],
        "services": ["10.96.0.7 . tcp . 80 : 0x00000002"],
        "endpoints": [
            "10.96.0.7 . tcp . 80 . 0 : 10.1.0.1 . 8080",
            "10.96.0.7 . tcp . 80 . 1 : 10.1.0.2 . 8080",
        ],
    }


def test_ipv6(make: Make) -> None:
    assert elements(make(pods=(1,), local=(1,)), Family.IPV6) == {
        "cluster_ips": ["fd00:96::7"],
        "hairpin": ["fd00:1::1 . fd00:1::1"],
        "services": ["fd00:96::7 . tcp . 80 : 0x00000001"],
        "endpoints": ["fd00:96::7 . tcp . 80 . 0 : fd00:1::1 . 8080"],
    }


def test_a_node_port(make: Make) -> None:
    found = elements(make(pods=(1,), node_port=30080))
    assert found["nodeport_services"] == ["tcp . 30080 : 0x00000001"]
    assert found["nodeport_endpoints"] == ["tcp . 30080 . 0 : 10.1.0.1 . 8080"]
    assert found["nodeport_masqueraded"] == ["tcp . 30080"]
    assert "masqueraded" not in found


OUTSIDE = IPSet(("203.0.113.7",))
MASQUERADED = [
    ({}, {}, []),
    ({}, {"masquerade_all": True}, ["10.96.0.7 . tcp . 80"]),
    ({"external_ips": OUTSIDE}, {}, ["203.0.113.7 . tcp . 80"]),
    ({"load_balancer_ips": OUTSIDE}, {}, ["203.0.113.7 . tcp . 80"]),
    ({"external_ips": OUTSIDE, "external_traffic_local": True}, {}, []),
    ({"external_ips": OUTSIDE, "external_traffic_local": True}, {"masquerade_all": True}, ["10.96.0.7 . tcp . 80"]),
    ({"internal_traffic_local": True}, {"masquerade_all": True}, ["10.96.0.7 . tcp . 80"]),
]


@pytest.mark.parametrize(("fields", "options", "expected"), MASQUERADED)
def test_masquerade(make: Make, fields: dict[str, Any], options: dict[str, Any], expected: list[str]) -> None:
    assert elements(make(**fields), **options).get("masqueraded", []) == expected


UNREACHABLE = [
    # usable in the cluster (families), in scope: internal, external -> the set of the cluster IP, of the node port
    (0, (), (), "rejected", "nodeport_rejected"),
    (1, (), (), "dropped", "nodeport_dropped"),
    (2, (), (), "rejected", "nodeport_rejected"),  # only IPv6
    (3, (1,), (), "services", "nodeport_dropped"),
    (3, (), (1,), "dropped", "nodeport_services"),
]


@pytest.mark.parametrize(("available", "internal", "external", "vip", "node_port"), UNREACHABLE)
def test_reject_and_drop(
    make: Make, available: int, internal: Any, external: Any, vip: str, node_port: str
) -> None:
    local = make(pods=(1,), available=available, internal=internal, external=external, node_port=30080)
    found = elements(local)
    states = {"rejected", "dropped", "services"}
    assert states & found.keys() == {vip}
    assert {f"nodeport_{state}" for state in states} & found.keys() == {node_port}


def test_an_endpoint_without_the_port_does_not_count(make: Make) -> None:
    local = make(pods=(1, 2))
    strange = replace(local.endpoints["pod-1"], ports=(EndpointPort("else", 8080),))
    found = elements(LocalService(local.service, {**local.endpoints, "pod-1": strange}))
    assert found["endpoints"] == ["10.96.0.7 . tcp . 80 . 0 : 10.1.0.2 . 8080"]


def test_an_endpoint_that_is_there_twice_counts_once(make: Make) -> None:
    local = make(pods=(1,))
    found = elements(LocalService(local.service, {**local.endpoints, "again": local.endpoints["pod-1"]}))
    assert found["services"] == ["10.96.0.7 . tcp . 80 : 0x00000001"]


def test_an_endpoint_without_ports_serves_the_target_port() -> None:
    service = Service(
        namespace="n", name="s", cluster_ips=IPSet(("10.0.0.1",)), ports=(PortMapping(80, target_port=81),)
    )
    found = elements(LocalService(service, {"e": Endpoint(addresses=IPSet(("10.1.0.1", "10.1.0.2")))}))
    assert [text.split(" : ")[1] for text in found["endpoints"]] == ["10.1.0.1 . 81", "10.1.0.2 . 81"]


class TestAffinity:
    def test_elements(self, make: Make) -> None:
        found = elements(make(pods=(1, 2), session_affinity_seconds=10800, node_port=30080))
        assert "endpoints" not in found
        [(_, number)] = [text.split(" : ") for text in found["affinity_services"]]
        assert found["nodeport_affinity_services"] == [f"tcp . 30080 : {number}"]
        numbers = [text.split(" : ")[1] for text in found["affinity_numbers"]]
        targets = [text.split(" . ")[3].split(" : ")[0] for text in found["affinity_endpoints"]]
        assert numbers == targets
        assert len(set(numbers)) == 2
        [service] = found["services"]
        assert class_name("", int(service.split(" : ")[1], 16)) == "affinity_10800s_2"

    def test_policies_do_not_share_clients(self, make: Make) -> None:
        found = elements(make(pods=(1,), session_affinity_seconds=9, node_port=30080, external_traffic_local=True))
        numbers = {text.split(" : ")[1] for name in found if "affinity_services" in name for text in found[name]}
        assert len(numbers) == 2

    def test_service_numbers_tell_ports_apart(self, make: Make) -> None:
        service = make().service
        other = make("other").service
        ports = [PortMapping(80), PortMapping(81), PortMapping(80, name="x")]
        numbers = {
            service_number(s, port, local=local) for s in (service, other) for port in ports for local in (0, 1)
        }
        assert len(numbers) == 12

    @given(st.sets(st.binary(min_size=8, max_size=8), max_size=50))
    def test_endpoint_numbers_do_not_depend_on_the_others(self, endpoints: set[bytes]) -> None:
        ordered = sorted(endpoints)
        numbers = dict(zip(ordered, endpoint_numbers(ordered), strict=True))
        assert len(set(numbers.values())) == len(ordered)
        for endpoint in ordered[:5]:
            assert endpoint_numbers([endpoint]) == [numbers[endpoint]]

    def test_endpoint_numbers_are_unique_even_if_hashes_are_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = contents_module._hash
        monkeypatch.setattr(contents_module, "_hash", lambda value: b"same" if len(value) == 8 else real(value))
        assert len(set(endpoint_numbers([b"aaaaaaaa", b"bbbbbbbb", b"cccccccc"]))) == 3


@given(st.integers(1, MOST_STICKY_ENDPOINTS), st.integers(1, 86400))
def test_classes_tell_count_and_timeout(count: int, seconds: int) -> None:
    assert class_name("", service_class(count, seconds)) == f"affinity_{seconds}s_{count}"
    assert class_name("nodeport_", service_class(count)) == f"nodeport_count_{count}"


@pytest.mark.parametrize(("internal", "external"), [(False, False), (True, False), (False, True), (True, True)])
def test_i1_clients_of_both_policies(make: Make, internal: bool, external: bool) -> None:
    """Each frontend knows the number of its own policy, and the other's where both are in use."""
    fields = {"internal_traffic_local": internal, "external_traffic_local": external}
    local = make(pods=(1,), external_ips=OUTSIDE, session_affinity_seconds=9, **fields)
    numbers = {
        policy: service_number(local.service, local.service.ports[0], local=policy) for policy in (False, True)
    }
    found = contents(local, frontends(local.service), Options())[Family.IPV4]
    own = found["affinity_services"]
    assert [number for _, number in sorted(own.items())] == [numbers[internal], numbers[external]]
    others = found.get("affinity_others", {})
    assert others.keys() == (own.keys() if internal or external else set())
    for key, other in others.items():
        assert {own[key], other} == set(numbers.values())
