"""A node's local state as the server last told it: rounds in, change sets out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from kpng.model import ChangeSet, Endpoint, LocalNode, LocalService, Service, ServiceChange, ServiceKey

from .local_round import LocalRound
from .open_ports import OpenPorts

_NO_ENDPOINTS: Mapping[str, Endpoint] = {}


class LocalMirror:
    """Applies whole rounds."""

    def __init__(self) -> None:
        self._services: dict[ServiceKey, Service] = {}
        # also those of services that are unknown yet: the server does not send them again
        self._endpoints: dict[ServiceKey, Mapping[str, Endpoint]] = {}
        self._state: dict[ServiceKey, LocalService] = {}
        self._node: LocalNode | None = None
        self._ports = OpenPorts[ServiceKey, Endpoint](lambda service: service)
        self._started = False

    @property
    def state(self) -> Mapping[ServiceKey, LocalService]:
        return self._state

    def apply(self, collected: LocalRound) -> ChangeSet | None:
        """Take on a complete round; what it changes, or None if that is nothing. The first is ``full``."""
        self._ports.close(collected.services, collected.endpoints, whole=collected.whole, any_open=collected.open)
        touched = dict.fromkeys(collected.services) | dict.fromkeys(collected.endpoints)
        if collected.whole:
            touched |= dict.fromkeys(self._state)
            self._services, self._endpoints = {}, {}
        collected.problems.take_on()
        self._store(collected)
        changes = self._compare(touched)
        full, self._started = not self._started, True
        news = collected.node if collected.node != self._node else None
        self._node = news or self._node
        return ChangeSet(changes, full=full, node=news) or None

    def _store(self, collected: LocalRound) -> None:
        for key, service in collected.services.items():
            if service is None:
                self._services.pop(key, None)
            else:
                self._services[key] = service
        for key, endpoints in collected.endpoints.items():
            before = _NO_ENDPOINTS if key in collected.emptied else self._endpoints.get(key, _NO_ENDPOINTS)
            left = _present({**before, **endpoints} if before else endpoints)
            if left:
                self._endpoints[key] = left
            else:
                self._endpoints.pop(key, None)

    def _compare(self, touched: Iterable[ServiceKey]) -> dict[ServiceKey, ServiceChange]:
        changes = {}
        for key in touched:
            old, new = self._state.get(key), self._current(key)
            if old is new or (old and new and old.service == new.service and old.endpoints == new.endpoints):
                continue
            changes[key] = ServiceChange(old, new)
            if new is None:
                del self._state[key]
            else:
                self._state[key] = new
        return changes

    def _current(self, key: ServiceKey) -> LocalService | None:
        service = self._services.get(key)
        return LocalService(service, self._endpoints.get(key, {})) if service else None


def _present(endpoints: dict[str, Endpoint | None]) -> Mapping[str, Endpoint]:
    if all(endpoints.values()):  # as in every round that begins anew
        return cast(dict[str, Endpoint], endpoints)
    return {name: endpoint for name, endpoint in endpoints.items() if endpoint is not None}
