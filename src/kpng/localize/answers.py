"""Answers: what each node must do for one service, computed once per distinct view.

A node matters to a service only by its zone, if the hints name it, and by its name, if it hosts an endpoint
or a node hint names it (design, decision 3). All other nodes share one answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from kpng.model import (
    FAMILIES,
    Endpoint,
    EndpointInfo,
    EndpointPort,
    Family,
    IPSet,
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

_SCOPES = {(i, e): Scopes(i, e) if i or e else None for i in (False, True) for e in (False, True)}
"""Shared by all endpoints; None where an endpoint is of no use."""

_Uses = dict[EndpointPort, Scopes]
"""What an endpoint may be used for in one family."""

_UsesByEndpoint = dict[int, dict[Family, _Uses]]
"""By the identity of the `EndpointInfo`."""


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
        uses: _UsesByEndpoint = {}
        for mapping in self._service.ports:
            for family in FAMILIES:
                self._choose_port(mapping, family, node, zone, uses)
        local: dict[str, Endpoint] = {}
        for key, info in self._candidates:
            if by_family := uses.pop(id(info), None):
                _add(local, key, info, by_family, bool(node) and info.node == node)
        return local or _NO_ENDPOINTS

    def _choose_port(
        self, mapping: PortMapping, family: Family, node: str, zone: str, uses: _UsesByEndpoint
    ) -> None:
        candidates = _carrying([info for _, info in self._candidates], mapping, family)
        choice = choose(candidates, node, zone)
        internal = choice.local if self._service.internal_traffic_local else choice.cluster
        external = choice.local if self._service.external_traffic_local else choice.cluster
        inside, outside = {id(e) for e in internal}, {id(e) for e in external}
        for info in candidates:
            scopes = _SCOPES[id(info) in inside, id(info) in outside]
            if scopes is not None:
                port = EndpointPort(mapping.name, resolve_port(info.ports, mapping), mapping.protocol)
                uses.setdefault(id(info), {}).setdefault(family, {})[port] = scopes


def _carrying(infos: list[EndpointInfo], mapping: PortMapping, family: Family) -> list[EndpointInfo]:
    """The endpoints of a family that carry a port. The same address and port in several slices is one endpoint;
    one that does not terminate wins, as in kube-proxy."""
    unique: dict[tuple[tuple[str, ...], int], EndpointInfo] = {}
    for info in infos:
        addresses, number = info.addresses.family(family), resolve_port(info.ports, mapping)
        if not addresses or not number:
            continue
        known = unique.setdefault((addresses, number), info)
        if known.terminating and not info.terminating:
            unique[addresses, number] = info
    return list(unique.values())


def _available(infos: list[EndpointInfo], mapping: PortMapping) -> int:
    families = [f for f in FAMILIES if choose(_carrying(infos, mapping, f), "", "").anywhere]
    return sum(family.bit for family in families)


def _by_addresses(addresses: IPSet, by_family: dict[Family, _Uses]) -> Iterator[tuple[IPSet, _Uses]]:
    """An endpoint that has both families is one only if both may be used alike."""
    v4, v6 = by_family.get(Family.IPV4), by_family.get(Family.IPV6)
    if v4 and v4 == v6:
        yield addresses, v4
        return
    if v4:
        yield (IPSet(v4=addresses.v4) if addresses.v6 else addresses), v4
    if v6:
        yield (IPSet(v6=addresses.v6) if addresses.v4 else addresses), v6


def _add(
    local: dict[str, Endpoint], key: str, info: EndpointInfo, by_family: dict[Family, _Uses], is_local: bool
) -> None:
    """Add an endpoint; where its families or ports differ in scopes, one entry for each, told apart by number."""
    for addresses, uses in _by_addresses(info.addresses, by_family):
        groups: dict[Scopes, list[EndpointPort]] = {}
        for port, scopes in uses.items():
            groups.setdefault(scopes, []).append(port)
        for scopes, ports in groups.items():
            name, number = key, 1
            while name in local:  # a key of ours never holds "::"
                number += 1
                name = f"{key}::{number}"
            local[name] = Endpoint(
                addresses=addresses, ports=tuple(ports), scopes=scopes, local=is_local, hostname=info.hostname
            )
