"""Which Services want a health check port, and how many endpoints each has here (semantics L1, L6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from kpng.model import FAMILIES, ChangeSet, Family, LocalService, ServiceKey


class HealthCheck(Struct, frozen=True):
    """One Service's. ``local_endpoints``: by family."""

    port: int
    local_endpoints: Mapping[Family, int]


class HealthChecks:
    """Follows change sets. Sans-IO."""

    def __init__(self) -> None:
        self.wanted: dict[ServiceKey, HealthCheck] = {}

    def apply(self, changes: ChangeSet) -> bool:
        """Take over a change set that has been made real. Returns whether it changes who wants which port."""
        touched = changes.changes.keys() | (self.wanted.keys() if changes.full else ())
        before = self._ports(touched)
        if changes.full:
            self.wanted.clear()
        for key, change in changes.changes.items():
            if change.new is None or not change.new.service.health_check_node_port:
                self.wanted.pop(key, None)
            else:
                self.wanted[key] = _health_check(change.new)
        return self._ports(touched) != before

    def _ports(self, services: Iterable[ServiceKey]) -> dict[ServiceKey, int]:
        return {key: self.wanted[key].port for key in services if key in self.wanted}


def _health_check(local: LocalService) -> HealthCheck:
    counts = {family: ready_local_endpoints(local, family) for family in FAMILIES}
    return HealthCheck(local.service.health_check_node_port, counts)


def ready_local_endpoints(local: LocalService, family: Family) -> int:
    """How many distinct addresses here are ready for external traffic; those that terminate are not (L6)."""
    here = (e for e in local.endpoints.values() if e.local and e.scopes.external and not e.terminating)
    return len({address for endpoint in here for address in endpoint.addresses.family(family)})
