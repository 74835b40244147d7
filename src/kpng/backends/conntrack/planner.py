"""Which flows are stale, and where to look for them. Knows services, no sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from kpng.host.conntrack import Flow, Query
from kpng.model import ChangeSet, ServiceKey

from .frontends import SOCKET_FAMILY, Frontend, Targets, frontends

MAX_QUERIES = 8
"""Each makes the kernel walk its whole table (20 ms at 100,000 flows); all flows at once cost ten times that."""

_EVERYTHING = None
"""What is due at a frontend whose flows must all be looked at, wherever they lead."""


class Plan:
    """What to ask connection tracking, and what of the answers is stale. Good until the planner is told more."""

    def __init__(self, queries: Iterable[Query], allowed: Callable[[bytes], Targets | None]) -> None:
        self.queries = tuple(queries)
        self._allowed = allowed
        self._known: dict[bytes, Targets | None] = {}

    def is_stale(self, flow: Flow) -> bool:
        """Whether a UDP flow was taken at a frontend, and is answered by what does not serve there (O3)."""
        destination = flow.destination
        if destination not in self._known:
            self._known[destination] = self._allowed(destination)
        allowed = self._known[destination]
        return allowed is not None and flow.reply_source not in allowed


class Planner:
    """Follows the services, and remembers what has to be looked at until it was.

    Where several services claim a frontend, the endpoints of all count: which of them has it is the backend's
    decision, and a flow must not suffer from a guess.
    """

    def __init__(self) -> None:
        self._by_service: dict[ServiceKey, dict[Frontend, Targets]] = {}
        self._claims: dict[Frontend, dict[ServiceKey, Targets]] = {}
        self._node_ports: set[Frontend] = set()
        """Those that are claimed."""
        self._due: dict[Frontend, Targets | None] = {}
        """With the endpoints that left, or `_EVERYTHING`."""

    @property
    def needs_node_addresses(self) -> bool:
        """Whether `plan` has to know this node's addresses."""
        return bool(self._node_ports) or any(frontend.is_node_port for frontend in self._due)

    def note(self, changes: ChangeSet) -> None:
        """Take over changes that are real by now."""
        if changes.full:
            for key in self._by_service.keys() - changes.changes.keys():
                self._replace(key, {})
        for key, change in changes.changes.items():
            self._replace(key, frontends(change.new))

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
        if frontend.is_node_port:
            self._node_ports.add(frontend)
        if not claims:
            del self._claims[frontend]
            self._node_ports.discard(frontend)
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
        queries = _narrow(self._due)
        if len(queries) > MAX_QUERIES:
            queries = {Query(SOCKET_FAMILY[frontend.family]) for frontend in (*self._due, *self._claims)}
        here = frozenset(node_addresses)
        return Plan(sorted(queries), lambda destination: self._allowed(destination, here))

    def _allowed(self, destination: bytes, here: frozenset[bytes]) -> Targets | None:
        """Who may answer for a destination; None if it is no business of ours.

        Where a service was, only the destination itself may: what was never translated goes on.
        """
        asked = [Frontend.at(destination)]
        if asked[0].address in here:  # elsewhere it is somebody else's port of the same number (X7)
            asked.append(asked[0]._replace(address=b""))
        for frontend in asked:
            if frontend in self._claims:
                return self._serving(frontend)
        return Targets({destination}) if any(frontend in self._due for frontend in asked) else None

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
