"""Where services take UDP packets, and who may answer."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from kpng.backends.conntrack.frontends import Frontend, Targets, frontends, has_udp
from kpng.host.conntrack import Query, socket_address
from kpng.model import Endpoint, Family, IPSet, LocalService, Scopes
from kpng.testing import endpoint, local_service, service

V4, V6 = Family.IPV4, Family.IPV6


def at(address: str, port: int) -> Frontend:
    return Frontend.at(socket_address(address, port))


def node_port(family: Family, port: int) -> Frontend:
    return Frontend(family, b"", port)


def targets(*ends: tuple[str, int]) -> Targets:
    return frozenset(socket_address(*end) for end in ends)


POD = endpoint("10.1.0.1", "fd00:1::1", port="5353/UDP")
OTHER = endpoint("10.1.0.2", port="5353/UDP")
BOTH_PODS = targets(("10.1.0.1", 5353), ("10.1.0.2", 5353))


def local(*endpoints: Endpoint, ips: tuple[str, ...] = ("10.96.0.10",), **fields: Any) -> LocalService:
    return local_service(service("demo/dns", *ips, **{"ports": "53:5353/UDP", **fields}), *endpoints)


CASES: dict[str, tuple[LocalService | None, dict[Frontend, Targets]]] = {
    "none": (None, {}),
    "cluster IP": (local(POD, OTHER), {at("10.96.0.10", 53): BOTH_PODS}),
    "no endpoints": (local(), {at("10.96.0.10", 53): frozenset()}),
    "TCP only": (local(POD, ports="53:5353/TCP"), {}),
    "SCTP only": (local(POD, ports="53:5353/SCTP"), {}),
    "the same port in TCP is another": (
        local(endpoint("10.1.0.1", port="t=53/TCP u=5353/UDP"), ports="t=53/TCP u=53:5353/UDP"),
        {at("10.96.0.10", 53): targets(("10.1.0.1", 5353))},
    ),
    "two families": (
        local(POD, OTHER, ips=("10.96.0.10", "fd00:96::10")),
        {at("10.96.0.10", 53): BOTH_PODS, at("fd00:96::10", 53): targets(("fd00:1::1", 5353))},
    ),
    "a family without a cluster IP": (
        local(POD, external_ips=IPSet(("203.0.113.1",), ("2001:db8::1",))),
        {at("10.96.0.10", 53): targets(("10.1.0.1", 5353)), at("203.0.113.1", 53): targets(("10.1.0.1", 5353))},
    ),
    "everywhere": (
        local(
            OTHER,
            ports="53:5353/UDP@30053",
            external_ips=IPSet(("203.0.113.1",)),
            load_balancer_ips=IPSet(("203.0.113.2",)),
        ),
        {
            at("10.96.0.10", 53): targets(("10.1.0.2", 5353)),
            at("203.0.113.1", 53): targets(("10.1.0.2", 5353)),
            at("203.0.113.2", 53): targets(("10.1.0.2", 5353)),
            node_port(V4, 30053): targets(("10.1.0.2", 5353)),
        },
    ),
    "node ports of two families": (
        local(POD, ips=("10.96.0.10", "fd00:96::10"), ports="53:5353/UDP@30053"),
        {
            at("10.96.0.10", 53): targets(("10.1.0.1", 5353)),
            at("fd00:96::10", 53): targets(("fd00:1::1", 5353)),
            node_port(V4, 30053): targets(("10.1.0.1", 5353)),
            node_port(V6, 30053): targets(("fd00:1::1", 5353)),
        },
    ),
    "named ports that differ by endpoint": (
        local(
            endpoint("10.1.0.1", port="dns=53/UDP"),
            endpoint("10.1.0.2", port="dns=5353/UDP"),
            endpoint("10.1.0.3", port="other=53/UDP"),
            ports="dns=53:dns/UDP",
        ),
        {at("10.96.0.10", 53): targets(("10.1.0.1", 53), ("10.1.0.2", 5353))},
    ),
    "endpoints without ports (Go state files)": (
        local(endpoint("10.1.0.1", port=0)),
        {at("10.96.0.10", 53): targets(("10.1.0.1", 5353))},
    ),
    "two ports": (
        local(endpoint("10.1.0.1", port="a=53/UDP b=5060/UDP"), ports="a=53/UDP b=506:5060/UDP"),
        {
            at("10.96.0.10", 53): targets(("10.1.0.1", 53)),
            at("10.96.0.10", 506): targets(("10.1.0.1", 5060)),
        },
    ),
    "headless": (local(POD, headless=True), {}),
    "ExternalName": (local(POD, type="ExternalName"), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_frontends(name: str) -> None:
    given, expected = CASES[name]
    assert frontends(given) == expected


@pytest.mark.parametrize(
    "scopes",
    [Scopes(True, False), Scopes(False, True), Scopes(False, False)],
    ids=str,
)
def test_o5_an_endpoint_counts_in_whatever_scope(scopes: Scopes) -> None:
    """Where it may not get new flows, it serves its old ones all the same."""
    one = Endpoint(addresses=IPSet(("10.1.0.1",)), ports=POD.ports, scopes=scopes)
    assert set(frontends(local(one, ports="53:5353/UDP@30053")).values()) == {targets(("10.1.0.1", 5353))}


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, False), (local(), True), (local(ports="1/TCP 2/SCTP"), False), (local(ports="1/TCP 2/UDP"), True)],
)
def test_has_udp(given: LocalService | None, expected: bool) -> None:
    assert has_udp(given) is expected


QUERIES = [
    (at("10.96.0.10", 53), Query(socket.AF_INET, address=socket.inet_aton("10.96.0.10"), port=53)),
    (at("fd00::1", 53), Query(socket.AF_INET6, address=socket.inet_pton(socket.AF_INET6, "fd00::1"), port=53)),
    (node_port(V4, 30053), Query(socket.AF_INET, port=30053)),
    (node_port(V6, 30053), Query(socket.AF_INET6, port=30053)),
]


@pytest.mark.parametrize(("frontend", "expected"), QUERIES)
def test_queries(frontend: Frontend, expected: Query) -> None:
    assert frontend.query() == expected
    assert frontend.is_node_port is (not expected.address)
