"""Who owns a frontend that several services claim: against a model that looks at all of them each time."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kpng.backends.nft.books import Books
from kpng.backends.nft.fields import pack_address
from kpng.backends.nft.frontends import Claims, ClaimsDraft, Rank, frontends, owned
from kpng.backends.nft.layout import Layout
from kpng.backends.nft.options import Options
from kpng.model import (
    FAMILIES,
    Endpoint,
    EndpointPort,
    Family,
    IPSet,
    LocalService,
    PortMapping,
    Service,
    ServiceKey,
)

ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1"]
LAYOUTS = {family: Layout(family, Options()) for family in FAMILIES}

_ips = st.lists(st.sampled_from(ADDRESSES), max_size=2, unique=True).map(IPSet.of)
_ports = st.lists(
    st.builds(PortMapping, port=st.sampled_from([80, 81]), node_port=st.sampled_from([0, 30080, 30081])), max_size=2
).map(tuple)


def service(name: str) -> st.SearchStrategy[Service]:
    return st.builds(
        Service,
        namespace=st.just("demo"),
        name=st.just(name),
        cluster_ips=_ips,
        load_balancer_ips=_ips,
        external_ips=_ips,
        ports=_ports,
    )


NAMES = ("a", "b", "c", "d")
services = st.fixed_dictionaries({}, optional={ServiceKey("demo", name): service(name) for name in NAMES})


def claims_of(found: Service) -> Iterator[tuple[bytes, Rank]]:
    """Everything a service names, plainly: each address with each port, each node port."""
    ranked = ((Rank.CLUSTER_IP, found.cluster_ips), (Rank.LOAD_BALANCER, found.load_balancer_ips))
    for family in FAMILIES:
        if not found.cluster_ips.family(family):
            continue
        prefix = b"4" if family is Family.IPV4 else b"6"
        for mapping in found.ports:
            for rank, ips in (*ranked, (Rank.EXTERNAL_IP, found.external_ips)):
                for address in ips.family(family):
                    yield prefix + pack_address(address) + port_bytes(mapping.port), rank
            if mapping.node_port:
                yield prefix + port_bytes(mapping.node_port), Rank.NODE_PORT


def port_bytes(number: int) -> bytes:
    return b"\6\0\0\0" + number.to_bytes(2, "big") + b"\0\0"


def owners(state: dict[ServiceKey, Service]) -> dict[bytes, ServiceKey]:
    """The least rank wins, then the least name."""
    best: dict[bytes, tuple[Rank, ServiceKey]] = {}
    for key, found in state.items():
        for claim, rank in claims_of(found):
            best[claim] = min(best.get(claim, (rank, key)), (rank, key))
    return {claim: key for claim, (_, key) in best.items()}


@settings(max_examples=300, deadline=None)
@given(services)
def test_the_least_rank_and_then_the_least_name_owns(state: dict[ServiceKey, Service]) -> None:
    claims = ClaimsDraft(Claims())
    for key, found in state.items():
        claims.replace(key, None, found)
    expected = owners(state)
    for key, found in state.items():
        mine, lost = owned(found, claims)
        assert {frontend.claim for frontend in mine} == {claim for claim, who in expected.items() if who == key}
        for frontend, whose in lost:
            assert whose in {f"service {expected[frontend.claim]}", "another port of this service"}
        assert len(mine) + len(lost) == len(list(frontends(found)))


@settings(max_examples=200, deadline=None)
@given(services, st.permutations(NAMES))
def test_the_order_in_which_they_come_does_not_matter(state: dict[ServiceKey, Service], order: list[str]) -> None:
    found = []
    for names in (NAMES, order):
        claims = ClaimsDraft(Claims())
        for key in (ServiceKey("demo", name) for name in names):
            if key in state:
                claims.replace(key, None, state[key])
        found.append({claim: claimants for claim, claimants in claims.changed.items() if claimants})
    assert found[0] == found[1]


class MovingClaims(RuleBasedStateMachine):
    """Services come, go, change and swap; drafts are taken, or dropped as when the kernel refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books(LAYOUTS)
        self.state: dict[ServiceKey, Service] = {}
        self.held: dict[tuple[Family, str], dict[bytes, bytes]] = {}

    def change(self, changes: dict[ServiceKey, Service | None], *, taken: bool = True) -> None:
        draft = self.books.draft({key: found and local(found) for key, found in changes.items()})
        if not taken:
            return
        for family, table in draft.tables.items():
            for name, deleted in table.change.deleted.items():
                for key in deleted:
                    del self.held[family, name][key]
            for name, added in table.change.added.items():
                held = self.held.setdefault((family, name), {})
                assert not held.keys() & added.keys()
                held.update(added)
        self.books.take(draft)
        for key, found in changes.items():
            if found is None:
                self.state.pop(key, None)
            else:
                self.state[key] = found

    @rule(changes=services)
    def come(self, changes: dict[ServiceKey, Service]) -> None:
        self.change(dict(changes))

    @rule(changes=services)
    def refused(self, changes: dict[ServiceKey, Service]) -> None:
        self.change(dict(changes), taken=False)

    @rule(names=st.sets(st.sampled_from(NAMES), min_size=1))
    def go(self, names: set[str]) -> None:
        self.change({ServiceKey("demo", name): None for name in names})

    @precondition(lambda self: len(self.state) > 1)
    @rule(data=st.data())
    def swap(self, data: st.DataObject) -> None:
        """Two services exchange all they have, in one change."""
        one, other = data.draw(st.permutations(sorted(self.state)))[:2]
        self.change({one: renamed(self.state[other], one), other: renamed(self.state[one], other)})

    @invariant()
    def every_claim_is_programmed_once_and_for_its_owner(self) -> None:
        expected = owners(self.state)
        programmed: dict[bytes, bytes] = {}
        for (family, name), held in self.held.items():
            if name in {"endpoints", "nodeport_endpoints"}:
                prefix = b"4" if family is Family.IPV4 else b"6"
                programmed |= {prefix + key[:-4]: data for key, data in held.items()}
        assert programmed.keys() == expected.keys()
        for claim, data in programmed.items():
            assert data == endpoint_of(expected[claim], Family.IPV4 if claim[:1] == b"4" else Family.IPV6)

    @invariant()
    def nothing_is_kept_of_services_that_are_gone(self) -> None:
        assert self.books.services.keys() == self.state.keys()
        if not self.state:
            assert not any(self.held.values())
            assert not self.books.claims._claimants


def local(found: Service) -> LocalService:
    """With one endpoint that tells whose it is."""
    number = NAMES.index(found.name) + 1
    addresses = IPSet((f"10.1.0.{number}",), (f"fd00:1::{number}",))
    return LocalService(found, {"pod": Endpoint(addresses=addresses, ports=(EndpointPort("", 8080),))})


def endpoint_of(key: ServiceKey, family: Family) -> bytes:
    number = NAMES.index(key.name) + 1
    address = f"10.1.0.{number}" if family is Family.IPV4 else f"fd00:1::{number}"
    return pack_address(address) + (8080).to_bytes(2, "big") + b"\0\0"


def renamed(found: Service, key: ServiceKey) -> Service:
    return Service(
        namespace=key.namespace,
        name=key.name,
        cluster_ips=found.cluster_ips,
        load_balancer_ips=found.load_balancer_ips,
        external_ips=found.external_ips,
        ports=found.ports,
    )


TestMovingClaims = MovingClaims.TestCase
TestMovingClaims.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)
