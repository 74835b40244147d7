"""The books: changes one by one lead where one change leads, and failure leaves no trace. No kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from kpng.backends.nft import books as books_module
from kpng.backends.nft.books import MOST_SPARE_CLASSES, Books, Draft
from kpng.backends.nft.layout import MOST_STICKY_ENDPOINTS, Layout, nearby_classes, service_class
from kpng.backends.nft.options import Options
from kpng.model import (
    FAMILIES,
    PRIMARY,
    DetectLocalMode,
    Endpoint,
    EndpointPort,
    Family,
    IPSet,
    LocalNode,
    LocalService,
    PortMapping,
    Protocol,
    Scopes,
    Service,
    ServiceKey,
)

OPTIONS = Options(masquerade_all=True, detect_local_mode=DetectLocalMode.NODE_CIDR, node_port_addresses=PRIMARY)
LAYOUTS = {family: Layout(family, OPTIONS) for family in FAMILIES}
Make = Callable[..., LocalService]


class Table:
    """What a kernel would hold after these changes; strict like the kernel."""

    def __init__(self) -> None:
        self.elements: dict[tuple[Family, str], dict[bytes, bytes]] = {}
        self.classes: dict[tuple[Family, str], dict[bytes, str]] = {}
        self.fingerprints = dict.fromkeys(FAMILIES, "")

    def commit(self, draft: Draft) -> None:
        for family, table in draft.tables.items():
            change = table.change
            if not change and not change.new_fingerprint:
                continue
            assert change.old_fingerprint == self.fingerprints[family]
            self.fingerprints[family] = change.new_fingerprint
            for name, deleted in change.deleted.items():
                for key in deleted:
                    del self.elements[family, name][key]
            for name, key, chain in change.new_classes:
                assert chain.name not in self.classes.setdefault((family, name), {}).values()
                self.classes[family, name][key] = chain.name
            for name, added in change.added.items():
                held = self.elements.setdefault((family, name), {})
                assert not held.keys() & added.keys()
                held.update(added)
            for name, key, chain_name in change.old_classes:
                assert self.classes[family, name].pop(key) == chain_name

    def held(self) -> dict[tuple[Family, str], dict[bytes, bytes]]:
        return {place: held for place, held in self.elements.items() if held}

    def check_classes(self) -> None:
        """Every class that a service needs is there."""
        for (family, name), held in self.elements.items():
            if name.endswith("services") and "affinity" not in name:
                classes = self.classes.get((family, name.replace("services", "classes")), {})
                assert set(held.values()) <= classes.keys()


_addresses = st.sampled_from(["10.96.0.1", "10.96.0.2", "fd00::1", "fd00::2"])
_pods = st.sampled_from([f"10.1.0.{n}" for n in range(6)] + [f"fd00:1::{n}" for n in range(6)])
_ports = st.builds(
    PortMapping,
    port=st.integers(80, 82),
    protocol=st.sampled_from([Protocol.TCP, Protocol.UDP]),
    name=st.sampled_from(["", "http"]),
    node_port=st.sampled_from([0, 0, 30080, 30081]),
    available=st.integers(0, 3),
)
_endpoints = st.builds(
    Endpoint,
    addresses=st.lists(_pods, min_size=1, max_size=3).map(IPSet.of),
    ports=st.sampled_from([(), (EndpointPort("", 8080),), (EndpointPort("http", 8081),)]),
    scopes=st.builds(Scopes, st.booleans(), st.booleans(), st.booleans()),
    local=st.booleans(),
)


_ranges = st.sampled_from(["192.0.2.0/24", "192.0.2.0/28", "192.0.3.0/24", "0.0.0.0/0", "fd00:9::/64"])
_nodes = st.builds(
    LocalNode,
    name=st.just("n"),
    addresses=st.lists(st.sampled_from(["192.0.2.1", "198.51.100.1", "fd00:9::1"]), max_size=2).map(IPSet.of),
    pod_cidrs=st.lists(st.sampled_from(["10.1.0.0/24", "fd00:1::/64"]), max_size=2, unique=True).map(tuple),
    service_cidrs=st.lists(
        st.sampled_from(["10.96.0.0/16", "10.97.0.0/16", "10.96.3.0/24", "fd00:96::/112"]), max_size=3
    ).map(tuple),
)


def _services(name: str) -> st.SearchStrategy[LocalService]:
    service = st.builds(
        Service,
        namespace=st.just("demo"),
        name=st.just(name),
        cluster_ips=st.lists(_addresses, max_size=3).map(IPSet.of),
        external_ips=st.lists(_addresses, max_size=2).map(IPSet.of),
        load_balancer_ips=st.lists(_addresses, max_size=1).map(IPSet.of),
        ports=st.lists(_ports, max_size=3).map(tuple),
        external_traffic_local=st.booleans(),
        internal_traffic_local=st.booleans(),
        session_affinity_seconds=st.sampled_from([0, 0, 10, 20]),
        source_ranges=st.lists(_ranges, max_size=3, unique=True).map(tuple),
    )
    return st.builds(LocalService, service, st.dictionaries(st.sampled_from("abcde"), _endpoints, max_size=5))


_NAMES = ("a", "b", "c", "d")
Step = tuple[dict[ServiceKey, LocalService | None], LocalNode | None]
steps = st.lists(
    st.tuples(
        st.fixed_dictionaries({}, optional={ServiceKey("demo", n): st.none() | _services(n) for n in _NAMES}),
        st.none() | _nodes,
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(steps)
def test_step_by_step_leads_where_one_step_leads(sequence: list[Step]) -> None:
    """Of services and of the Node, whose addresses matter to source ranges (G5)."""
    books, table, state = Books(LAYOUTS), Table(), {}
    last: LocalNode | None = None
    for number, (changes, node) in enumerate(sequence):
        draft = books.draft(changes, node=node, fresh=number == 0)
        table.commit(draft)
        books.take(draft)
        state.update(changes)
        last = node or last
        table.check_classes()
    fresh_books, fresh_table = Books(LAYOUTS), Table()
    at_once = fresh_books.draft({k: local for k, local in state.items() if local}, node=last, fresh=True)
    fresh_table.commit(at_once)
    fresh_books.take(at_once)
    assert table.held() == fresh_table.held()
    assert {f: b.fingerprint() for f, b in books.tables.items()} == {
        f: b.fingerprint() for f, b in fresh_books.tables.items()
    }
    assert table.fingerprints == fresh_table.fingerprints
    assert books.claims._claimants == fresh_books.claims._claimants
    assert books.node == fresh_books.node
    for family in FAMILIES:
        assert books.tables[family].shared == fresh_books.tables[family].shared
        assert books.tables[family].classes == fresh_books.tables[family].classes


@settings(max_examples=100, deadline=None)
@given(steps)
def test_a_draft_that_is_not_taken_leaves_no_trace(sequence: list[Step]) -> None:
    patient, once = Books(LAYOUTS), Books(LAYOUTS)
    for changes, node in sequence:
        patient.draft(changes, node=node)
        patient.draft({})
        drafts = patient.draft(changes, node=node), once.draft(changes, node=node)
        assert drafts[0].tables.keys() == drafts[1].tables.keys()
        assert [t.elements_hash for t in drafts[0].tables.values()] == [
            t.elements_hash for t in drafts[1].tables.values()
        ]
        patient.take(drafts[0])
        once.take(drafts[1])


@settings(max_examples=50, deadline=None)
@given(steps)
def test_when_all_is_gone_nothing_is_left(sequence: list[Step]) -> None:
    books = Books(LAYOUTS)
    nothing = dict.fromkeys((ServiceKey("demo", name) for name in _NAMES), None)
    for changes, node in [*sequence, (nothing, LocalNode(name="n"))]:
        books.take(books.draft(changes, node=node))
    assert not books.services
    assert not books._guarded
    for table in books.tables.values():
        assert (table.elements_hash, dict(table.shared), dict(table.classes)) == (0, {}, {})


def test_a_node_that_changes_costs_what_depends_on_it(make: Make) -> None:
    books = Books(LAYOUTS)
    plain = [make(f"s{n}", vip=n) for n in range(1, 20)]
    ranges = {"load_balancer_ips": IPSet(("203.0.113.7",)), "source_ranges": ("192.0.2.0/24",)}
    change(books, *plain, make("guarded", vip=50, **ranges))
    node = LocalNode(name="n", addresses=IPSet(("192.0.2.1",)), service_cidrs=("10.96.0.0/16",))
    draft = books.draft({}, node=node)
    assert draft.lost.keys() == {ServiceKey("demo", "guarded")}  # no other service was looked at
    added = draft.tables[Family.IPV4].change.added
    assert {name: len(found) for name, found in added.items()} == {
        "service_cidrs": 1,
        "nodeport_addresses": 1,
        "source_ranges": 1,
    }
    books.take(draft)
    assert not books.draft({}, node=node)
    assert not books.draft({}, node=replace(node, eligible=True))


def change(books: Books, *services: LocalService) -> Draft:
    draft = books.draft({local.service.key: local for local in services})
    books.take(draft)
    return draft


def sizes(draft: Draft, family: Family = Family.IPV4) -> tuple[int, int]:
    made = draft.tables[family].change
    return sum(map(len, made.deleted.values())), sum(map(len, made.added.values()))


def test_x17_work_is_proportional_to_what_changed(make: Make) -> None:
    books = Books(LAYOUTS)
    change(books, *(make(f"s{n}", vip=n) for n in range(1, 200)))
    assert sizes(change(books, make("s7", vip=7, pods=(1, 2, 4)))) == (1, 1)
    assert sizes(change(books, make("s7", vip=7, pods=(1, 2, 4, 5)))) == (1, 2)
    assert not change(books, make("s7", vip=7, pods=(1, 2, 4, 5)))


def test_shared_elements_stay_as_long_as_one_needs_them(make: Make) -> None:
    books = Books(LAYOUTS)
    change(books, make("a", vip=1, pods=(1,), local=(1,)), make("b", vip=2, pods=(1,), local=(1,)))
    gone = books.draft({ServiceKey("demo", "a"): None})
    assert "hairpin" not in gone.tables[Family.IPV4].change.deleted
    books.take(gone)
    last = books.draft({ServiceKey("demo", "b"): None})
    assert len(last.tables[Family.IPV4].change.deleted["hairpin"]) == 1


def test_classes_are_made_once_and_kept_for_a_while(make: Make) -> None:
    books = Books(LAYOUTS)
    first = change(books, make(pods=(1, 2)), make("other", vip=8, pods=(1, 2)))
    assert [chain.name for _, _, chain in first.tables[Family.IPV4].change.new_classes] == ["count_2"]
    up = change(books, make(pods=(1, 2, 3)))
    assert [chain.name for _, _, chain in up.tables[Family.IPV4].change.new_classes] == ["count_3"]
    down = change(books, make(pods=(1, 2)))
    assert down.tables[Family.IPV4].change.old_classes == []
    again = change(books, make(pods=(1, 2, 3)))
    assert again.tables[Family.IPV4].change.new_classes == []


def new_classes(draft: Draft, family: Family = Family.IPV4) -> list[str]:
    return [chain.name for _, _, chain in draft.tables[family].change.new_classes]


@pytest.mark.parametrize("fresh", [True, False])
def test_a_table_that_begins_large_has_classes_for_what_comes(
    make: Make, monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    """Made before the elements: later, binding a chain to a large map takes the kernel long."""
    monkeypatch.setattr(books_module, "MANY_ELEMENTS", 10)
    books = Books(LAYOUTS)
    state = {local.service.key: local for local in (make(), make("other", vip=8, session_affinity_seconds=9))}
    draft = books.draft(state, fresh=fresh)
    books.take(draft)
    made = new_classes(draft)
    assert made[:2] == ["count_3", "affinity_9s_3"]
    if not fresh:
        assert len(made) == 2
        return
    assert made[2:6] == ["count_2", "count_4", "affinity_9s_2", "affinity_9s_4"]
    assert len(set(made)) == len(made) == 2 + MOST_SPARE_CLASSES
    assert not {"count_0", "affinity_9s_0"}.intersection(made)
    for pods in ((1, 2), (1, 2, 3, 4), (1,), (1, 2, 3, 4, 5)):
        assert new_classes(change(books, make(pods=pods))) == []


def test_a_small_table_has_only_the_classes_it_needs(make: Make) -> None:
    books = Books(LAYOUTS)
    assert new_classes(books.draft({make().service.key: make()}, fresh=True)) == ["count_3"]


@pytest.mark.parametrize(
    ("number", "distance", "near"),
    [
        (3, 1, [2, 4]),
        (3, 3, [6]),
        (1, 1, [2]),
        ((1 << 31) - 1, 1, [(1 << 31) - 2]),  # the next one would be sticky
        (service_class(3, 60), 1, [service_class(2, 60), service_class(4, 60)]),
        (service_class(1, 60), 1, [service_class(2, 60)]),
        (service_class(MOST_STICKY_ENDPOINTS, 60), 1, [service_class(MOST_STICKY_ENDPOINTS - 1, 60)]),
    ],
)
def test_nearby_classes_have_the_same_affinity(number: int, distance: int, near: list[int]) -> None:
    assert nearby_classes(number, distance) == near


def test_the_oldest_spare_class_goes(make: Make) -> None:
    books = Books(LAYOUTS)
    gone: list[Any] = []
    for seconds in range(1, MOST_SPARE_CLASSES + 3):
        gone += change(books, make(session_affinity_seconds=seconds)).tables[Family.IPV4].change.old_classes
    assert [name for _, _, name in gone] == ["affinity_1s_3"]


@pytest.mark.parametrize(
    "other",
    [
        Options(),
        Options(("10.2.0.0/16",)),
        Options(masquerade_all=True),
        Options(hook_priority=1),
        Options(detect_local_mode=DetectLocalMode.BRIDGE_INTERFACE, pod_interface="cni0"),
        Options(detect_local_mode=DetectLocalMode.INTERFACE_NAME_PREFIX, pod_interface="cni0"),
        Options(node_port_addresses=PRIMARY),
    ],
)
def test_options_are_part_of_the_fingerprint(make: Make, other: Options) -> None:
    """Of the fixed part, or of the elements."""
    local = make(node_port=30080)
    prints = []
    for options in (OPTIONS, other):
        books = Books({family: Layout(family, options) for family in FAMILIES})
        change(books, local)
        prints.append(books.tables[Family.IPV4].fingerprint())
    assert prints[0] != prints[1]


def test_who_an_element_belongs_to(make: Make) -> None:
    books = Books(LAYOUTS)
    draft = books.draft({make().service.key: make(node_port=30080)})
    added = draft.tables[Family.IPV6].change.added
    for name in ("services", "endpoints", "nodeport_services", "nodeport_endpoints"):
        for key in added[name]:
            assert books.owner_of(Family.IPV6, key, draft) == ServiceKey("demo", "web")
    assert books.owner_of(Family.IPV6, bytes(24), draft) is None
