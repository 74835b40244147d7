"""Where services can be reached, and who owns what two of them claim."""

from __future__ import annotations

from typing import Any

import pytest

from kpng.backends.nft.fields import show
from kpng.backends.nft.frontends import Claims, ClaimsDraft, Rank, frontends, owned
from kpng.backends.nft.layout import Layout
from kpng.backends.nft.options import Options
from kpng.model import FAMILIES, IPSet, PortMapping, Protocol, Service, ServiceKey

LAYOUTS = {family: Layout(family, Options()) for family in FAMILIES}


def listed(service: Service) -> list[str]:
    return [
        f"{f.kind}{f.rank.name} {show(LAYOUTS[f.family].keys[f.kind], f.key)} {int(f.family)}"
        for f in frontends(service)
    ]


def web(**fields: Any) -> Service:
    defaults = {
        "namespace": "demo",
        "name": "web",
        "cluster_ips": IPSet(("10.0.0.1",)),
        "ports": (PortMapping(80),),
    }
    return Service(**{**defaults, **fields})


CASES = [
    (web(), ["CLUSTER_IP 10.0.0.1 . tcp . 80 4"]),
    (
        web(cluster_ips=IPSet(("10.0.0.1",), ("fd00::1",))),
        ["CLUSTER_IP 10.0.0.1 . tcp . 80 4", "CLUSTER_IP fd00::1 . tcp . 80 6"],
    ),
    (web(headless=True), []),
    (web(type="ExternalName"), []),
    (web(cluster_ips=IPSet()), []),
    (web(cluster_ips=IPSet(), external_ips=IPSet(("9.9.9.9",))), []),
    (
        web(ports=(PortMapping(53, Protocol.UDP), PortMapping(53), PortMapping(9, Protocol.SCTP))),
        [
            "CLUSTER_IP 10.0.0.1 . udp . 53 4",
            "CLUSTER_IP 10.0.0.1 . tcp . 53 4",
            "CLUSTER_IP 10.0.0.1 . sctp . 9 4",
        ],
    ),
    (web(ports=(PortMapping(80, Protocol.UNKNOWN),)), []),
    (
        web(ports=(PortMapping(80, node_port=30080),)),
        ["CLUSTER_IP 10.0.0.1 . tcp . 80 4", "nodeport_NODE_PORT tcp . 30080 4"],
    ),
    (
        web(
            external_ips=IPSet(("9.9.9.9", "9.9.9.10"), ("2001:db8::9",)),
            load_balancer_ips=IPSet(("9.9.9.9",)),
        ),
        # IPv6 needs an IPv6 cluster IP; what is both counts as a load balancer's
        [
            "CLUSTER_IP 10.0.0.1 . tcp . 80 4",
            "LOAD_BALANCER 9.9.9.9 . tcp . 80 4",
            "EXTERNAL_IP 9.9.9.10 . tcp . 80 4",
        ],
    ),
]


@pytest.mark.parametrize(("service", "expected"), CASES)
def test_frontends(service: Service, expected: list[str]) -> None:
    assert listed(service) == expected


def test_claims_are_unique_over_families_and_kinds() -> None:
    service = web(cluster_ips=IPSet(("10.0.0.1",), ("fd00::1",)), ports=(PortMapping(80, node_port=80),))
    claims = [frontend.claim for frontend in frontends(service)]
    assert len(set(claims)) == len(claims) == 4


class Cluster:
    """Claims of services that come and go."""

    def __init__(self) -> None:
        self.claims = Claims()
        self.services: dict[ServiceKey, Service] = {}

    def change(self, **services: Service | None) -> set[str]:
        """Set or delete services by name; gives the names of those whose belongings may have moved."""
        draft = ClaimsDraft(self.claims)
        for name, service in services.items():
            key = ServiceKey("demo", name)
            draft.replace(key, self.services.get(key), service)
            if service is None:
                self.services.pop(key, None)
            else:
                self.services[key] = service
        moved = {key.name for key in draft.moved()}
        self.claims.update(draft.changed)
        return moved

    def owners(self, address: str = "10.0.0.1") -> list[str]:
        """The services that own an address."""
        return [
            key.name
            for key, service in self.services.items()
            for frontend in owned(service, self.claims)[0]
            if show(LAYOUTS[frontend.family].keys[frontend.kind], frontend.key).startswith(address)
        ]


def test_first_by_name_owns_whoever_came_first() -> None:
    cluster = Cluster()
    assert cluster.change(b=web(name="b")) == set()
    assert cluster.owners() == ["b"]
    assert cluster.change(a=web(name="a")) == {"a", "b"}
    assert cluster.owners() == ["a"]
    assert cluster.change(c=web(name="c")) == {"a", "b", "c"}
    assert cluster.change(a=None) >= {"b"}
    assert cluster.owners() == ["b"]
    assert cluster.change(b=None) >= {"c"}
    assert cluster.owners() == ["c"]


def test_a_cluster_ip_beats_a_name() -> None:
    cluster = Cluster()
    thief = web(name="a", cluster_ips=IPSet(("10.0.0.66",)), external_ips=IPSet(("10.0.0.1",)))
    cluster.change(a=thief, b=web(name="b"))
    assert cluster.owners("10.0.0.1") == ["b"]
    [(lost, owner)] = owned(thief, cluster.claims)[1]
    assert (lost.rank, owner) == (Rank.EXTERNAL_IP, "service demo/b")


def test_other_ports_of_an_address_may_be_another_services() -> None:
    cluster = Cluster()
    cluster.change(a=web(name="a"), b=web(name="b", ports=(PortMapping(81),)))
    assert sorted(cluster.owners()) == ["a", "b"]


def test_two_services_may_swap() -> None:
    cluster = Cluster()
    one, two = IPSet(("10.0.0.1",)), IPSet(("10.0.0.2",))
    cluster.change(a=web(name="a", cluster_ips=one), b=web(name="b", cluster_ips=two))
    cluster.change(a=web(name="a", cluster_ips=two), b=web(name="b", cluster_ips=one))
    assert cluster.owners("10.0.0.1") == ["b"]
    assert cluster.owners("10.0.0.2") == ["a"]


def test_nothing_is_left_when_all_are_gone() -> None:
    cluster = Cluster()
    cluster.change(a=web(name="a"), b=web(name="b"))
    cluster.change(a=None, b=None)
    assert cluster.claims._claimants == {}
