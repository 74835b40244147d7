"""Change sets out of states: say what there was and what there is now."""

from __future__ import annotations

from collections.abc import Iterable

from kpng.model import ChangeSet, LocalService, ServiceChange, ServiceKey


def full_state(*services: LocalService) -> ChangeSet:
    """The first change set of a backend's life: these services, and nothing else."""
    return ChangeSet({s.service.key: ServiceChange(None, s) for s in services}, full=True)


def change_set(old: Iterable[LocalService] = (), new: Iterable[LocalService] = ()) -> ChangeSet:
    """What leads from one state to another: a service only in ``old`` is deleted, only in ``new`` is new."""
    before, after = _by_key(old), _by_key(new)
    changes = {key: ServiceChange(before.get(key), after.get(key)) for key in before | after}
    return ChangeSet({key: change for key, change in changes.items() if change.differs})


def _by_key(services: Iterable[LocalService]) -> dict[ServiceKey, LocalService]:
    return {service.service.key: service for service in services}
