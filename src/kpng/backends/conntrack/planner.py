"""Which flows are stale, and where to look for them. Knows services, no sockets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from kpng.host.conntrack import Flow, Query
from kpng.model import ChangeSet, ServiceKey

from .frontends import ADDRESS_SIZE, SOCKET_FAMILY, Frontend, Targets, frontends

MAX_QUERIES = 8
"""Each makes the kernel walk its whole table (20 ms at 100,000 flows); all flows at once cost ten times that."""

_EVERYTHING = None
"""What is due at a frontend whose flows must all be looked at, wherever they lead."""


class Plan(Struct, frozen=True):
    """What to ask connection tracking, and what of the answers is stale. Good as long as the state is."""

    queries: tuple[Query, ...]
    _addressed: Mapping[bytes, Targets]
    """By socket address."""
    _node_ports: Mapping[tuple[int, bytes], Targets]
    """By size of the address and packed port."""
    _node_addresses: frozenset[bytes]

    def is_stale(self, flow: Flow) -> bool:
        """Whether a UDP flow goes through a frontend that is looked at, to what may not answer for it (O3)."""
        allowed = self._allowed(flow.destination)
        return allowed is not None and flow.reply_source not in allowed

    def _allowed(self, destination: bytes) -> Targets | None:
        found = self._addressed.get(destination)
        if found is not None or not self._node_ports:
            return found
        address = destination[:-2]
        if address not in self._node_addresses:  # else it is somebody else's port of the same number (X7)
            return None
        return self._node_ports.get((len(address), destination[-2:]))


class Planner:
    """Follows the services, and remembers what has to be looked at until it was.

    Where several services claim a frontend, the endpoints of all count: which of them has it is the backend's
    decision, and a flow must not suffer from a guess.
    """

    def __init__(self) -> None:
        self._by_service: dict[ServiceKey, dict[Frontend, Targets]] = {}
        self._claims: dict[Frontend, dict[ServiceKey, Targets]] = {}
        self._due: dict[Frontend, Targets | None] = {}
        """With the endpoints that left, or `_EVERYTHING`."""

    @property
    def needs_node_addresses(self) -> bool:
        """Whether `plan` has to know this node's addresses."""
        return any(not frontend.address for frontend in (*self._due, *self._claims))

    def note(self, changes: ChangeSet) -> None:
        """Take over changes that are real by now."""
        if changes.full:
            for key in self._by_service.keys() - changes.changes.keys():
                self._replace(key, {})
        for key, change in changes.changes.items():
            self._replace(key, frontends(change.new))
        if changes.full:
            self._due |= dict.fromkeys(self._claims, _EVERYTHING)

    def _replace(self, key: ServiceKey, after: dict[Frontend, Targets]) -> None:
        before = self._by_service.pop(key, {})
        if after:
            self._by_service[key] = after
        for frontend in before.keys() | after.keys():
            if before.get(frontend) != after.get(frontend):
                self._claim(frontend, key, after.get(frontend))

    def _claim(self, frontend: Frontend, key: ServiceKey, targets: Targets | None) -> None:
        before = self._serving(frontend)
        claims = self._claims.setdefault(frontend, {})
        if targets is None:
            del claims[key]
        else:
            claims[key] = targets
        if not claims:
            del self._claims[frontend]
        self._fall_due(frontend, before, self._serving(frontend))

    def _serving(self, frontend: Frontend) -> Targets | None:
        """Who may answer; None if the frontend is nobody's."""
        claims = self._claims.get(frontend)
        return None if claims is None else Targets().union(*claims.values())

    def _fall_due(self, frontend: Frontend, before: Targets | None, after: Targets | None) -> None:
        """Who leaves, leaves flows behind. Where nobody served, packets went anywhere; where nobody does now, all
        flows are stale. Where only more serve, none are."""
        if not before or not after:
            self._due[frontend] = _EVERYTHING
        elif gone := before - after:
            earlier = self._due.get(frontend, Targets())
            self._due[frontend] = _EVERYTHING if earlier is None else earlier | gone

    def plan(self, node_addresses: Iterable[bytes] = ()) -> Plan | None:
        """What is to be done now; None if nothing. ``node_addresses``: packed, where node ports are taken."""
        if not self._due:
            return None
        looked_at, queries = set(self._due), _narrow(self._due)
        if len(queries) > MAX_QUERIES:  # all flows are read, so they may as well all be looked at
            looked_at |= self._claims.keys()
            queries = {Query(SOCKET_FAMILY[frontend.family]) for frontend in looked_at}
        here = frozenset(node_addresses)
        addressed: dict[bytes, Targets] = {}
        node_ports: dict[tuple[int, bytes], Targets] = {}
        for frontend in looked_at:
            port = frontend.port.to_bytes(2, "big")
            allowed = self._serving(frontend)
            if frontend.address:
                where = frontend.address + port
                addressed[where] = _only(where) if allowed is None else allowed
            else:
                size = ADDRESS_SIZE[frontend.family]
                node_ports[size, port] = _only(*(a + port for a in here)) if allowed is None else allowed
        return Plan(tuple(sorted(queries)), addressed, node_ports, here)

    def done(self) -> None:
        """The last plan was carried out."""
        self._due.clear()


def _narrow(due: Mapping[Frontend, Targets | None]) -> set[Query]:
    """Queries that find every flow that may be stale, and few others: by the endpoints that left, whatever number
    of frontends they served, or by frontend where these are fewer or anything may be stale."""
    entirely = {frontend.query() for frontend, gone in due.items() if gone is _EVERYTHING}
    left = [(frontend, gone) for frontend, gone in due.items() if gone is not _EVERYTHING]
    by_frontend = {frontend.query() for frontend, _ in left}
    by_endpoint = {
        Query(SOCKET_FAMILY[frontend.family], answered_by=target) for frontend, gone in left for target in gone
    }
    return entirely | min(by_endpoint, by_frontend, key=len)


def _only(*addresses: bytes) -> Targets:
    """Who may answer where no service is any more: the address itself. What was never translated goes on."""
    return frozenset(addresses)
