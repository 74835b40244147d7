"""Local state and its change sets: what a backend is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from .endpoint import Endpoint
from .node import LocalNode
from .service import Service, ServiceKey


class LocalService(Struct, frozen=True, eq=False, weakref=True):
    """A service and the endpoints that one node may use for it, by endpoint key.

    Identity, not value, compares: nodes with the same answer share one object, so that what is derived
    from it (its bytes, say) can be made once. The endpoint key is unique within the service, stable while
    the endpoint lives, and different for the two families of a dual-stack pod.
    """

    service: Service
    endpoints: Mapping[str, Endpoint]


class ServiceChange(Struct, frozen=True):
    """One service before and after. ``old`` is None where it is new, ``new`` is None where it is gone."""

    old: LocalService | None
    new: LocalService | None

    @property
    def differs(self) -> bool:
        """Whether there is a difference at all, by value."""
        if self.old is self.new:
            return False
        if self.old is None or self.new is None:
            return True
        return self.old.service != self.new.service or self.old.endpoints != self.new.endpoints

    @property
    def service_changed(self) -> bool:
        """Whether the service itself, not only its endpoints, is new or different."""
        return self.new is not None and (self.old is None or self.old.service != self.new.service)

    def endpoints_set(self) -> Iterator[tuple[str, Endpoint]]:
        """Endpoints that are new or different, in key order."""
        if self.new is None:
            return
        before: Mapping[str, Endpoint] = self.old.endpoints if self.old else {}
        for key in sorted(self.new.endpoints):
            endpoint = self.new.endpoints[key]
            if before.get(key) != endpoint:
                yield key, endpoint

    def endpoints_deleted(self) -> Iterator[str]:
        """Keys of endpoints that are gone, in descending order."""
        if self.old is None:
            return
        after: Mapping[str, Endpoint] = self.new.endpoints if self.new else {}
        yield from (key for key in sorted(self.old.endpoints, reverse=True) if key not in after)


class ChangeSet(Struct, frozen=True):
    """The smallest unit handed on: applied whole or not at all.

    ``changes`` names each service that differs, in no particular order. ``full`` marks the first change set
    of a backend's life: together its changes are the whole desired state, so what is not in it must go.
    ``node`` is there where it is new or differs; a Go brain does not tell it at all.
    """

    changes: Mapping[ServiceKey, ServiceChange]
    full: bool = False
    node: LocalNode | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.changes) or self.full or self.node is not None

    def then(self, later: ChangeSet) -> ChangeSet:
        """This change set and a later one as one; services that end as they began fall out."""
        if later.full:
            return later if later.node or not self.node else ChangeSet(later.changes, full=True, node=self.node)
        merged = dict(self.changes)
        for key, change in later.changes.items():
            earlier = merged.pop(key, change)
            both = ServiceChange(earlier.old, change.new)
            if both.differs:
                merged[key] = both
        return ChangeSet(merged, self.full, later.node or self.node)
