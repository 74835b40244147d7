"""What is wrong with the cluster as a whole: problems that no single object shows."""

from __future__ import annotations

from collections.abc import Iterator

from kpng.model import Problem, ProblemLog, Service, ServiceKey
from kpng.store import EMPTY, ServiceRecord, Snapshot, Store


class Auditor:
    """Follows the store and reports cluster IPs used twice and named ports that no endpoint has.

    Cost per change: the changed services and those that share an address with them.
    """

    def __init__(self, store: Store, problems: ProblemLog) -> None:
        self._store = store
        self._problems = problems
        self._seen = EMPTY
        self._owners: dict[str, set[ServiceKey]] = {}

    async def run(self) -> None:
        while True:
            self.advance(await self._store.newer(self._seen))

    def advance(self, snapshot: Snapshot) -> None:
        """Check what changed since the last call."""
        affected: set[ServiceKey] = set()
        for key in snapshot.changed_services(self._seen):
            affected.add(key)
            for address in _cluster_ips(self._seen.services.get(key)):
                affected |= self._release(address, key)
            for address in _cluster_ips(snapshot.services.get(key)):
                owners = self._owners.setdefault(address, set())
                owners.add(key)
                affected |= owners
        for key in affected:
            self._problems.report(f"audit {key}", self._check(key, snapshot.services.get(key)))
        self._seen = snapshot

    def _release(self, address: str, key: ServiceKey) -> set[ServiceKey]:
        """Note that a service gave up an address; return who else has it."""
        others = self._owners[address] - {key}
        if others:
            self._owners[address] = others
        else:
            del self._owners[address]
        return others

    def _check(self, key: ServiceKey, record: ServiceRecord | None) -> Iterator[Problem]:
        if record is None or record.service is None:
            return
        yield from self._duplicates(key, record.service)
        yield from _unserved_ports(record)

    def _duplicates(self, key: ServiceKey, service: Service) -> Iterator[Problem]:
        for address in service.cluster_ips.all():
            first = min(self._owners[address])
            if first != key:
                message = f"{address} is also the cluster IP of Service {first}, which keeps it"
                yield Problem(f"Service {key}", "spec.clusterIPs", message)


def _cluster_ips(record: ServiceRecord | None) -> tuple[str, ...]:
    return record.service.cluster_ips.all() if record and record.service else ()


def _unserved_ports(record: ServiceRecord) -> Iterator[Problem]:
    """Named ports that none of the service's endpoints has, though it has endpoints (a misspelt name)."""
    offered = {(port.name, port.protocol) for _, info in record.endpoints() for port in info.ports}
    if record.service is None or not offered:
        return
    for index, port in enumerate(record.service.ports):
        if port.name and (port.name, port.protocol) not in offered:
            message = f"no endpoint has a port named {port.name!r} ({port.protocol.name})"
            yield Problem(f"Service {record.key}", f"spec.ports[{index}].name", message)
