"""The quick check of batches: what it lets through is what the lenient decoding would leave as it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from kpng.model import Endpoint, EndpointPort, IPSet, PortMapping, Protocol, Scopes, Service
from kpng.testing import endpoint, service
from kpng.wire.batch import ServiceDelta
from kpng.wire.batch_check import surely_good
from kpng.wire.endpoint import endpoint_from_wire, endpoint_to_wire
from kpng.wire.lenient import Faults
from kpng.wire.paths import local_endpoint_path, local_service_path, parse_local_endpoint, parse_local_service
from kpng.wire.service import service_from_wire, service_to_wire

WEB = service("demo/web", "10.96.0.1", ports="http=80:8080 dns=53/UDP@30053")
POD = endpoint("10.1.0.1", port="http=8080", hostname="web-0")


def delta(new: Service | None = WEB, name: str = "web", **endpoints: Endpoint | None) -> ServiceDelta:
    return ServiceDelta("demo", name, new, False, dict(endpoints))


def with_pod(**changes: Any) -> ServiceDelta:
    return delta(**{"pod-1": replace(POD, **changes)})


def with_service(**changes: Any) -> ServiceDelta:
    return delta(replace(WEB, **changes))


GOOD = {
    "a service and its endpoint": delta(a=POD),
    "only an endpoint": delta(None, a=POD),
    "a deleted endpoint": delta(None, a=None),
    "gone": ServiceDelta("demo", "web", None, True),
    "both families": with_pod(addresses=IPSet(("10.1.0.1",), ("fd00::1",))),
    "one family and the other": delta(a=endpoint("fd00::1"), b=endpoint("10.1.0.1")),
    "several addresses": with_pod(addresses=IPSet(("10.1.0.1", "10.1.0.2"))),
    "no ports": with_pod(ports=()),
    "no scopes": with_pod(scopes=Scopes(False, False)),
    "no addresses": with_service(cluster_ips=IPSet()),
    "IPv6 of a service": with_service(external_ips=IPSet((), ("2001:db8::1",))),
    "a loopback of a service": with_service(external_ips=IPSet(("127.0.0.1",))),
    "key of an address": delta(**{"pod-1:10.1.0.1": POD}),
    "no type of ours": with_service(type="ExternalName"),
    "labels": with_service(labels={"a": "\n"}, annotations={"": "x" * 1000}),
}

UNSURE = {
    "a key of two lines": delta(**{"a\nb": POD}),
    "an empty key": delta(**{"": POD}),
    "a key with a slash": delta(**{"a/b": POD}),
    "a long key": delta(**{"a" * 1025: POD}),
    "another name": delta(name="api"),
    "no name": ServiceDelta("demo", "", None, True),
    "upper case": ServiceDelta("demo", "Web", None, True),
    "a name of two lines": ServiceDelta("demo", "web\nx", None, True),
    "a long name": ServiceDelta("demo", "w" * 254, None, True),
    "a name that ends badly": ServiceDelta("demo", "web-", None, True),
    "no address": with_pod(addresses=IPSet()),
    "loopback": with_pod(addresses=IPSet(("127.0.0.1",))),
    "link-local": with_pod(addresses=IPSet(("169.254.169.254",))),
    "multicast": with_pod(addresses=IPSet(("239.1.2.3",))),
    "broadcast": with_pod(addresses=IPSet(("255.255.255.255",))),
    "unspecified": with_pod(addresses=IPSet(("0.0.0.0",))),
    "unspecified IPv6": with_pod(addresses=IPSet((), ("::",))),
    "loopback IPv6": with_pod(addresses=IPSet((), ("::1",))),
    "mapped": with_pod(addresses=IPSet((), ("::ffff:127.0.0.1",))),
    "leading zeros": with_pod(addresses=IPSet(("10.1.0.01",))),
    "too much": with_pod(addresses=IPSet(("10.1.0.256",))),
    "two lines": with_pod(addresses=IPSet(("10.1.0.1\n10.1.0.2",))),
    "not sorted": with_pod(addresses=IPSet(("10.1.0.2", "10.1.0.1"))),
    "twice": with_pod(addresses=IPSet(("10.1.0.1", "10.1.0.1"))),
    "one has two and another has none": delta(
        a=endpoint("10.1.0.1", "10.1.0.2"), b=replace(POD, addresses=IPSet())
    ),
    "IPv4 among IPv6": with_pod(addresses=IPSet((), ("10.1.0.1",))),
    "IPv6 among IPv4": with_pod(addresses=IPSet(("fd00::1",))),
    "IPv6 not canonical": with_pod(addresses=IPSet((), ("fd00:0::1",))),
    "a zone": with_pod(addresses=IPSet((), ("fe80::1%eth0",))),
    "port 0": with_pod(ports=(EndpointPort("http", 0),)),
    "port 65536": with_pod(ports=(EndpointPort("http", 65536),)),
    "a bad port among good ones": with_pod(ports=(EndpointPort("http", 80), EndpointPort("HTTP", 80))),
    "an open port": with_pod(ports=(EndpointPort("http", 80, Protocol.UNKNOWN),)),
    "a hostname": with_pod(hostname="; rm"),
    "a service's address": with_service(cluster_ips=IPSet(("10.96.0.999",))),
    "a type": with_service(type="No Type!"),
    "no type": with_service(type=""),
    "ranges": with_service(source_ranges=("10.0.0.0/8",)),
    "health check": with_service(health_check_node_port=-1),
    "affinity": with_service(session_affinity_seconds=-1),
    "a huge affinity": with_service(session_affinity_seconds=1 << 40),
    "node port": with_service(ports=(PortMapping(port=80, node_port=70000),)),
    "target port": with_service(ports=(PortMapping(port=80, target_port=-1),)),
    "target name": with_service(ports=(PortMapping(port=80, target_port_name="A B"),)),
    "protocol": with_service(ports=(PortMapping(port=80, protocol=Protocol.UNKNOWN),)),
    "families": with_service(ports=(PortMapping(port=80, available=-1),)),
}


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str) -> None:
    assert surely_good([GOOD[name]])


@pytest.mark.parametrize("name", UNSURE)
def test_not_surely_good(name: str) -> None:
    assert not surely_good([UNSURE[name]])
    assert not surely_good([*GOOD.values(), UNSURE[name]]), "nor in company"


def test_all_together_and_nothing() -> None:
    assert surely_good(list(GOOD.values()))
    assert surely_good([])


@pytest.mark.parametrize("text", ["a" * 500_000, "1" * 500_000, "-" * 500_000, "a\n" * 100_000])
def test_long_texts_are_no_work(text: str) -> None:
    assert not surely_good([delta(**{text: POD})])
    assert not surely_good([with_pod(addresses=IPSet((text,)))])
    assert not surely_good([with_pod(hostname=text)])


# -- what it lets through is what the lenient decoding makes of it -----------------------------------------

odd_text = st.one_of(
    st.sampled_from(["", "web", "a-b", "a.b", "A", "-a", "a-", "http", "10.1.0.1", "::1", "a\n", "x" * 254]),
    st.text(max_size=6),
)
address = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(["10.1.0.1", "127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0", "fe80::1", "ff02::1", "::"]),
    odd_text,
)
ip_sets = st.builds(IPSet, st.lists(address, max_size=2).map(tuple), st.lists(address, max_size=2).map(tuple))
number = st.one_of(st.integers(0, 3), st.sampled_from([80, 65535, 65536, -1, 1 << 31, 1 << 40]))
endpoints = st.builds(
    Endpoint,
    addresses=st.one_of(st.just(POD.addresses), ip_sets),
    ports=st.lists(st.builds(EndpointPort, odd_text, number, st.sampled_from(Protocol)), max_size=2).map(tuple),
    scopes=st.builds(Scopes, st.booleans(), st.booleans(), st.booleans()),
    local=st.booleans(),
    hostname=odd_text,
)
mappings = st.builds(
    PortMapping, number, st.sampled_from(Protocol), odd_text, number, number, odd_text, st.integers(-1, 4)
)
services = st.builds(
    Service,
    namespace=st.just("demo"),
    name=st.one_of(st.just("web"), odd_text),
    type=st.one_of(st.just("NodePort"), odd_text),
    cluster_ips=ip_sets,
    load_balancer_ips=st.one_of(st.just(IPSet()), ip_sets),
    ports=st.lists(mappings, max_size=2).map(tuple),
    headless=st.booleans(),
    session_affinity_seconds=number,
    source_ranges=st.one_of(st.just(()), st.lists(odd_text, max_size=1).map(tuple)),
    health_check_node_port=number,
    labels=st.dictionaries(odd_text, odd_text, max_size=1),
)
deltas = st.builds(
    ServiceDelta,
    st.just("demo"),
    st.one_of(st.just("web"), odd_text),
    st.one_of(st.none(), services),
    st.booleans(),
    st.dictionaries(odd_text, st.one_of(st.none(), endpoints), max_size=2),
)


@given(deltas)
@example(GOOD["both families"])
def test_whatever_passes_is_as_lenient_decoding_leaves_it(each: ServiceDelta) -> None:
    if not surely_good([each]):
        return
    assert parse_local_service(local_service_path(each.key)) == each.key
    faults = Faults("it")
    if each.service is not None:
        assert service_from_wire(service_to_wire(each.service), faults) == each.service
        assert each.service.key == each.key
    for name, said in each.endpoints.items():
        assert parse_local_endpoint(local_endpoint_path(each.key, name)) == (each.key, name)
        if said is not None:
            assert endpoint_from_wire(endpoint_to_wire(said), faults) == said
    assert faults.problems == []


@given(st.lists(st.one_of(deltas, st.sampled_from(list(GOOD.values()))), max_size=4))
def test_a_batch_is_good_if_each_of_it_is(several: list[ServiceDelta]) -> None:
    assert surely_good(several) == all(surely_good([each]) for each in several)
