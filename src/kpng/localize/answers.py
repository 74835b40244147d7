"""Answers: what each node must do for one service, computed once per distinct view.

A node matters to a service only by its zone, if the hints name it, and by its name, if it hosts an endpoint
or a node hint names it (design, decision 3). All other nodes share one answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec.structs import replace

from kpng.model import (
    FAMILIES,
    Endpoint,
    EndpointInfo,
    EndpointPort,
    Family,
    LocalService,
    PortMapping,
    Scopes,
    Service,
    resolve_port,
)
from kpng.store import ServiceRecord

from .choice import choose
from .keys import endpoint_keys

View = tuple[str, str]
"""(node, zone), each "" where it makes no difference."""

_DERIVED = "answers"
_NO_ENDPOINTS: Mapping[str, Endpoint] = MappingProxyType({})


def localize(record: ServiceRecord, node: str, zone: str) -> LocalService | None:
    """What a node must do for a service; the same object for all nodes with the same view. None: nothing."""
    if record.service is None:
        return None
    answers = record.derived.get(_DERIVED)
    if not isinstance(answers, _Answers):
        answers = record.derived[_DERIVED] = _Answers(record.service, record)
    return answers.for_node(node, zone)


class _Answers:
    """All answers for one service record, made on demand."""

    __slots__ = ("_candidates", "_made", "_named_nodes", "_named_zones", "_service")

    def __init__(self, service: Service, record: ServiceRecord) -> None:
        endpoints = list(record.endpoints())
        keys = endpoint_keys(endpoints)
        self._candidates = [(key, endpoint) for key, (_, endpoint) in zip(keys, endpoints, strict=True)]
        infos = [endpoint for _, endpoint in endpoints]
        self._named_nodes = {e.node for e in infos} | {name for e in infos for name in e.node_hints}
        self._named_zones = {name for e in infos for name in e.zone_hints}
        self._service = replace(
            service, ports=tuple(replace(port, available=_available(infos, port)) for port in service.ports)
        )
        self._made: dict[View, LocalService] = {}

    def for_node(self, node: str, zone: str) -> LocalService:
        view = (node if node in self._named_nodes else "", zone if zone in self._named_zones else "")
        made = self._made.get(view)
        if made is None:
            made = self._made[view] = LocalService(self._service, self._endpoints(*view))
        return made

    def _endpoints(self, node: str, zone: str) -> Mapping[str, Endpoint]:
        """Choose per port and family, then put together again what each endpoint may be used for."""
        uses: dict[int, dict[EndpointPort, Scopes]] = {}
        for mapping in self._service.ports:
            for family in FAMILIES:
                self._choose_port(mapping, family, node, zone, uses)
        local: dict[str, Endpoint] = {}
        for key, info in self._candidates:
            _add(local, key, info, uses.get(id(info), {}), bool(node) and info.node == node)
        return local or _NO_ENDPOINTS

    def _choose_port(
        self,
        mapping: PortMapping,
        family: Family,
        node: str,
        zone: str,
        uses: dict[int, dict[EndpointPort, Scopes]],
    ) -> None:
        candidates = _carrying([info for _, info in self._candidates], mapping, family)
        choice = choose(candidates, node, zone)
        internal = choice.local if self._service.internal_traffic_local else choice.cluster
        external = choice.local if self._service.external_traffic_local else choice.cluster
        inside, outside = {id(e) for e in internal}, {id(e) for e in external}
        for info in candidates:
            scopes = Scopes(id(info) in inside, id(info) in outside)
            if scopes.internal or scopes.external:
                port = EndpointPort(mapping.name, resolve_port(info.ports, mapping), mapping.protocol)
                uses.setdefault(id(info), {})[port] = scopes


def _carrying(infos: list[EndpointInfo], mapping: PortMapping, family: Family) -> list[EndpointInfo]:
    return [e for e in infos if e.has_family(family) and resolve_port(e.ports, mapping)]


def _available(infos: list[EndpointInfo], mapping: PortMapping) -> int:
    families = [f for f in FAMILIES if choose(_carrying(infos, mapping, f), "", "").anywhere]
    return sum(family.bit for family in families)


def _add(
    local: dict[str, Endpoint], key: str, info: EndpointInfo, uses: dict[EndpointPort, Scopes], is_local: bool
) -> None:
    """Add an endpoint; where its ports differ in scopes, one entry for each, told apart by a port's name."""
    groups: dict[Scopes, list[EndpointPort]] = {}
    for port, scopes in uses.items():
        groups.setdefault(scopes, []).append(port)
    for number, (scopes, ports) in enumerate(groups.items()):
        local[f"{key}:{ports[0].name}" if number else key] = Endpoint(
            addresses=info.addresses, ports=tuple(ports), scopes=scopes, local=is_local, hostname=info.hostname
        )
