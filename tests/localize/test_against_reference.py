"""Endpoint choice against a second, plain implementation of A16 to A22 and B (docs/semantics.md): no sharing of
answers, no pools; one service port of one family of one node at a time, in the words of the rules."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from kpng.localize import localize
from kpng.model import FAMILIES, EndpointInfo, Family, LocalService, PortMapping, Service
from kpng.store import ServiceRecord
from kpng.testing import endpoint_info, service

NODES, ZONES = ("n1", "n2", "n3"), ("za", "zb")
PLAIN = service("demo/web", "10.96.0.1", "fd00::1", ports="http=80 dns=53/UDP@30053 http=80/UDP")


class Target(NamedTuple):
    address: str
    port: int


class Answer(NamedTuple):
    internal: set[Target]
    external: set[Target]
    short_circuit: set[Target]
    anywhere: bool


def reference(
    of: Service, sources: dict[str, list[EndpointInfo]], mapping: PortMapping, family: Family, node: str, zone: str
) -> Answer:
    carrying = unique(sources, mapping, family)
    ready = {target: info for target, info in carrying.items() if info.ready}
    draining = {t: info for t, info in carrying.items() if not info.ready and info.serving and info.terminating}
    cluster = set(hinted(ready, node, zone)) if ready else set(draining)
    here = {target for target, info in ready.items() if info.node == node}
    local = here or {target for target, info in draining.items() if info.node == node}
    reached = bool(of.external_ips or of.load_balancer_ips or any(port.node_port for port in of.ports))
    return Answer(
        internal=local if of.internal_traffic_local else cluster,
        external=local if of.external_traffic_local else cluster,
        short_circuit=cluster if of.external_traffic_local and reached else set(),
        anywhere=bool(ready or draining),
    )


def unique(
    sources: dict[str, list[EndpointInfo]], mapping: PortMapping, family: Family
) -> dict[Target, EndpointInfo]:
    """A20, A22: the endpoints that carry the port, each once; what terminates gives way to what does not."""
    found: dict[Target, EndpointInfo] = {}
    for name in sorted(sources):
        for info in sources[name]:
            for port in info.ports:
                if (port.name, port.protocol) != (mapping.name, mapping.protocol):
                    continue
                for address in info.addresses.family(family):
                    known = found.get(Target(address, port.port))
                    if known is None or (known.terminating and not info.terminating):
                        found[Target(address, port.port)] = info
    return found


def hinted(ready: dict[Target, EndpointInfo], node: str, zone: str) -> list[Target]:
    """B6: by node, else by zone, else all."""
    if all(info.node_hints for info in ready.values()):
        named = [target for target, info in ready.items() if node in info.node_hints]
        if named:
            return named
    if zone and all(info.zone_hints for info in ready.values()):
        named = [target for target, info in ready.items() if zone in info.zone_hints]
        if named:
            return named
    return list(ready)


def told(local: LocalService, mapping: PortMapping, family: Family) -> Answer:
    """What a backend takes from the local state."""

    def used(scope: str) -> list[Target]:
        return [
            Target(address, endpoint.port_for(mapping))
            for endpoint in local.endpoints.values()
            if getattr(endpoint.scopes, scope) and endpoint.port_for(mapping)
            for address in endpoint.addresses.family(family)
        ]

    lists = [used(scope) for scope in ("internal", "external", "short_circuit")]
    assert all(len(each) == len(set(each)) for each in lists), "an endpoint twice would be chosen twice as often"
    (port,) = (
        port for port in local.service.ports if port.name == mapping.name and port.protocol == mapping.protocol
    )
    internal, external, short_circuit = map(set, lists)
    return Answer(internal, external, short_circuit, bool(port.available & family.bit))


_addresses = st.sampled_from(
    [("10.1.0.1",), ("10.1.0.2",), ("10.1.0.3",), ("fd00:1::1",), ("10.1.0.4", "fd00:1::4")]
)
_conditions = st.sampled_from(
    [
        {},
        {"ready": False, "serving": False},
        {"ready": False, "serving": True},
        {"ready": False, "serving": True, "terminating": True},
        {"ready": False, "serving": False, "terminating": True},
        {"ready": True, "serving": False, "terminating": True},
    ]
)
_ports = st.sampled_from(
    ["http=8080", "http=8081", "dns=53/UDP", "http=8080 dns=53/UDP", "http=8080 http=8080/UDP", "x=1"]
)
_hints = st.sampled_from([(), ("n1",), ("n1", "n2"), ("n9",)])
_zone_hints = st.sampled_from([(), ("za",), ("za", "zb"), ("z9",)])


@st.composite
def infos(draw: st.DrawFn) -> EndpointInfo:
    fields: dict[str, Any] = draw(_conditions)
    return endpoint_info(
        *draw(_addresses),
        port=draw(_ports),
        node=draw(st.sampled_from(["", *NODES])),
        pod_name=draw(st.sampled_from(["", "a", "b"])),
        node_hints=draw(_hints),
        zone_hints=draw(_zone_hints),
        **fields,
    )


_slices = st.dictionaries(st.sampled_from("stu"), st.lists(infos(), max_size=4), max_size=3)


@settings(max_examples=400, deadline=None)
@given(_slices, st.booleans(), st.booleans(), st.booleans())
def test_a16_a22_b1_to_b9_as_the_rules_say(
    sources: dict[str, list[EndpointInfo]], internal: bool, external: bool, reached: bool
) -> None:
    of = replace(PLAIN, internal_traffic_local=internal, external_traffic_local=external)
    if not reached:
        of = replace(of, ports=tuple(replace(port, node_port=0) for port in of.ports))
    record = ServiceRecord(of.key, of, {name: tuple(each) for name, each in sources.items()})
    for node, zone in [(node, zone) for node in (*NODES, "n7") for zone in ("", *ZONES)]:
        local = localize(record, node, zone)
        assert local is not None
        for mapping in of.ports:
            for family in FAMILIES:
                expected = reference(of, sources, mapping, family, node, zone)
                assert told(local, mapping, family) == expected, (node, zone, mapping, family)
