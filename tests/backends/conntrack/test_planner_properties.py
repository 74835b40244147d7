"""Whatever the services do, and whichever passes fail: after a pass nothing stale is left, nothing else is gone.

The kernel is a list of flows here: it answers queries by `Query.names`.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kpng.backends.conntrack import Planner
from kpng.host.conntrack import UDP, Flow, socket_address
from kpng.model import ChangeSet, Endpoint, IPSet, LocalService, ServiceChange, ServiceKey
from kpng.testing import endpoint, key, local_service, service

NODE = ("192.0.2.1", "10.1.0.254")
PACKED_NODE = [socket_address(address, 0)[:-2] for address in NODE]
SHARED = ("203.0.113.1", "192.0.2.1")
"""External IPs that several services may name; one is the node's own."""
PORTS = (53, 30053)
PODS = tuple(f"10.1.0.{n}" for n in range(4))
NAMES = ("demo/a", "demo/b", "demo/c")
TCP = 6

Services = dict[ServiceKey, LocalService]
End = tuple[str, int]


@st.composite
def services(draw: st.DrawFn, name: str) -> LocalService | None:
    if draw(st.integers(0, 4)) == 0:
        return None
    port, node = draw(st.sampled_from(PORTS)), draw(st.sampled_from(["", "@30053"]))
    protocol = draw(st.sampled_from(["UDP", "UDP", "UDP", "TCP"]))
    target = draw(st.sampled_from([5353, 53]))
    external = tuple(draw(st.sets(st.sampled_from(SHARED), max_size=2)))
    made = service(
        name, f"10.96.0.{NAMES.index(name)}", ports=f"{port}/{protocol}{node}", external_ips=IPSet.of(external)
    )
    pods = draw(st.sets(st.sampled_from(PODS), max_size=3))
    return local_service(made, **{pod: one(pod, target, protocol) for pod in pods})


def one(pod: str, port: int, protocol: str) -> Endpoint:
    return endpoint(pod, port=f"{port}/{protocol}")


def ends_of(local: LocalService) -> tuple[set[End], bool, set[End]]:
    """Addresses, whether there is a node port, endpoints; computed another way than the planner does."""
    [mapping] = local.service.ports
    if mapping.protocol.name != "UDP":
        return set(), False, set()
    ips = {*local.service.cluster_ips.v4, *local.service.external_ips.v4}
    endpoints = {(e.addresses.v4[0], e.ports[0].port) for e in local.endpoints.values()}
    return {(ip, mapping.port) for ip in ips}, bool(mapping.node_port), endpoints


def serving(state: Services, where: End) -> set[End] | None:
    """Who serves there; None if it is no frontend. An address of a service's own comes before a node port."""
    found = [ends_of(local) for local in state.values()]
    own = [endpoints for ends, _, endpoints in found if where in ends]
    if own:
        return set().union(*own)
    node_ports = [endpoints for _, node_port, endpoints in found if node_port]
    if where[0] in NODE and where[1] == 30053 and node_ports:
        return set().union(*node_ports)
    return None


PLACES = [
    *((f"10.96.0.{n}", port) for n in range(3) for port in PORTS),
    *((address, port) for address in (*NODE, *SHARED, "198.51.100.9", *PODS[:1]) for port in PORTS),
]


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.planner = Planner()
        self.state: Services = {}
        self.flows: dict[Flow, tuple[End, End]] = {}
        self.clean = False

    def enter(self, where: End, answer: End, protocol: int = UDP) -> None:
        number = len(self.flows).to_bytes(4, "big")
        flow = Flow(protocol, socket_address(*where), socket_address(*answer), number)
        self.flows[flow] = (where, answer)

    @initialize(data=st.data(), old=st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(PODS)), max_size=6))
    def start(self, data: st.DataObject, old: list[tuple[End, str]]) -> None:
        """Flows of an earlier life are there before us; the first change set is full."""
        self.state = {key(name): local for name in NAMES if (local := data.draw(services(name))) is not None}
        for where, pod in old:
            if serving(self.state, where) is not None:
                self.enter(where, (pod, 5353))
        self.planner.note(ChangeSet({k: ServiceChange(None, s) for k, s in self.state.items()}, full=True))

    @rule(data=st.data(), names=st.sets(st.sampled_from(NAMES), min_size=1), full=st.booleans())
    def change(self, data: st.DataObject, names: set[str], full: bool) -> None:
        self.clean = False
        after = dict(self.state)
        for name in sorted(names):
            local = data.draw(services(name))
            after.pop(key(name), None)
            if local is not None:
                after[key(name)] = local
        self.planner.note(_changes(self.state, after, full))
        self.state = after

    @rule(where=st.sampled_from(PLACES), data=st.data(), protocol=st.sampled_from([UDP, UDP, TCP]))
    def packet(self, where: End, data: st.DataObject, protocol: int) -> None:
        """What the data path does with a new flow: translate, let it pass, or reject it."""
        targets = serving(self.state, where)
        if targets is None:
            self.enter(where, where, protocol)
        elif targets:
            self.enter(where, data.draw(st.sampled_from(sorted(targets))), protocol)

    @precondition(lambda self: not self.clean)
    @rule(fails=st.booleans())
    def reconcile(self, fails: bool) -> None:
        plan = self.planner.plan(PACKED_NODE)
        if plan is not None:
            asked = [flow for flow in self.flows if any(query.names(flow) for query in plan.queries)]
            stale = [flow for flow in asked if plan.is_stale(flow)]
            for flow in stale:
                assert self.is_stale(flow), "a flow that nothing is wrong with"
                del self.flows[flow]
        if not fails:
            self.planner.done()
            self.clean = True

    def is_stale(self, flow: Flow) -> bool:
        where, answer = self.flows[flow]
        targets = serving(self.state, where)
        return flow.protocol == UDP and (answer != where if targets is None else answer not in targets)

    @invariant()
    def nothing_stale(self) -> None:
        if self.clean:
            assert not [self.flows[flow] for flow in self.flows if self.is_stale(flow)]


def _changes(before: Services, after: Services, full: bool) -> ChangeSet:
    if full:
        return ChangeSet({k: ServiceChange(None, s) for k, s in after.items()}, full=True)
    keys = before.keys() | after.keys()
    changes = {k: ServiceChange(before.get(k), after.get(k)) for k in keys}
    return ChangeSet({k: change for k, change in changes.items() if change.differs})


TestPlanner = Machine.TestCase
TestPlanner.settings = settings(max_examples=100, stateful_step_count=15, deadline=None)
