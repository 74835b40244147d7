"""Random writers, readers at a random pace: what a reader adds up is always the truth."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kpng.model import EndpointInfo, Node, Service, ServiceKey
from kpng.store import EMPTY, Kind, Snapshot, Store, Transaction
from kpng.testing import endpoint_info, key, service

SERVICES = [key(f"{namespace}/{name}") for namespace in "ab" for name in ("web", "dns", "db")]
SLICES = ["s1", "s2", "s3"]
NODES = ["n1", "n2", "n3"]

services = st.sampled_from(SERVICES)
addresses = st.lists(st.sampled_from(["10.1.0.1", "10.1.0.2", "fd00::1"]), max_size=2)


class Truth:
    """The global state in plain dictionaries: the store's specification."""

    def __init__(self) -> None:
        self.services: dict[ServiceKey, Service] = {}
        self.slices: dict[tuple[str, str], tuple[ServiceKey, tuple[EndpointInfo, ...]]] = {}
        self.nodes: dict[str, Node] = {}

    def copy(self) -> Truth:
        other = Truth()
        other.services, other.slices, other.nodes = dict(self.services), dict(self.slices), dict(self.nodes)
        return other

    def records(self) -> dict[ServiceKey, tuple[Service | None, dict[str, tuple[EndpointInfo, ...]]]]:
        found: dict[ServiceKey, tuple[Service | None, dict[str, tuple[EndpointInfo, ...]]]] = {
            key: (service, {}) for key, service in self.services.items()
        }
        for (_, name), (owner, endpoints) in self.slices.items():
            found.setdefault(owner, (None, {}))[1][name] = endpoints
        return found


class Reader:
    """Adds up what changed, and sees nothing else."""

    def __init__(self) -> None:
        self.snapshot: Snapshot = EMPTY
        self.records: dict[ServiceKey, tuple[Service | None, dict[str, tuple[EndpointInfo, ...]]]] = {}
        self.nodes: dict[str, Node] = {}

    def read(self, store: Store) -> None:
        new = store.snapshot
        for changed in new.changed_services(self.snapshot):
            record = new.services.get(changed)
            if record is None:
                del self.records[changed]
            else:
                self.records[changed] = (record.service, dict(record.sources))
        for name in new.changed_nodes(self.snapshot):
            node = new.nodes.get(name)
            if node is None:
                del self.nodes[name]
            else:
                self.nodes[name] = node
        self.snapshot = new


class StoreAndReaders(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.truth = Truth()
        self.readers = [Reader() for _ in range(4)]
        self.staged: Transaction | None = None

    @rule(data=st.data(), fails=st.booleans(), replaced=st.sets(st.sampled_from(list(Kind)), max_size=2))
    def write(self, data: st.DataObject, fails: bool, replaced: set[Kind]) -> None:
        truth, before = self.truth.copy(), self.store.snapshot
        try:
            with self.store.transaction() as staged:
                self.stage_replace(staged, truth, replaced)
                for _ in range(data.draw(st.integers(0, 4))):
                    self.stage(staged, truth, data)
                if fails:
                    raise KeyError
        except KeyError:
            assert self.store.snapshot is before
        else:
            self.truth = truth
            assert self.store.snapshot.revision in {before.revision, before.revision + 1}

    def stage_replace(self, staged: Transaction, truth: Truth, replaced: set[Kind]) -> None:
        staged.replace(*replaced)
        for kind, held in (
            (Kind.SERVICES, truth.services),
            (Kind.ENDPOINTS, truth.slices),
            (Kind.NODES, truth.nodes),
        ):
            if kind in replaced:
                held.clear()

    def stage(self, staged: Transaction, truth: Truth, data: st.DataObject) -> None:
        owner = data.draw(services)
        slice_name = data.draw(st.sampled_from(SLICES))
        name = data.draw(st.sampled_from(NODES))
        match data.draw(st.integers(0, 5)):
            case 0:
                made = service(str(owner), data.draw(st.sampled_from(["10.96.0.1", "10.96.0.2"])))
                staged.set_service(made)
                truth.services[owner] = made
            case 1:
                staged.delete_service(owner)
                truth.services.pop(owner, None)
            case 2:
                endpoints = tuple(map(endpoint_info, data.draw(addresses)))
                staged.set_source(slice_name, owner, endpoints)
                truth.slices[owner.namespace, slice_name] = (owner, endpoints)
            case 3:
                staged.delete_source(owner.namespace, slice_name)
                truth.slices.pop((owner.namespace, slice_name), None)
            case 4:
                node = Node(name=name, zone=data.draw(st.sampled_from(["za", "zb"])))
                staged.set_node(node)
                truth.nodes[name] = node
            case 5:
                staged.delete_node(name)
                truth.nodes.pop(name, None)

    @rule(which=st.integers(0, 3))
    def read(self, which: int) -> None:
        reader = self.readers[which]
        reader.read(self.store)
        assert reader.records == self.truth.records()
        assert reader.nodes == self.truth.nodes

    @invariant()
    def the_newest_snapshot_is_the_truth(self) -> None:
        held = {k: (r.service, dict(r.sources)) for k, r in self.store.snapshot.services.items()}
        assert held == self.truth.records()
        assert dict(self.store.snapshot.nodes) == self.truth.nodes


TestStoreAndReaders = StoreAndReaders.TestCase
TestStoreAndReaders.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
