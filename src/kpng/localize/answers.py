"""Answers: what each node must do for one service.

A node matters to a service only by its zone, if the hints name it, and by its name, if it hosts an endpoint or a
node hint names it (design, decision 3). All other nodes of a zone share one answer, which is kept; that of a node
which hosts an endpoint is made of it when asked for: there are as many of those as there are endpoints.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType

from msgspec import Struct
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
    Protocol,
    Scopes,
    Service,
    match_port,
)
from kpng.store import ServiceRecord

from .choice import choose, is_usable
from .keys import endpoint_keys

_DERIVED = "answers"
_NO_ENDPOINTS: Mapping[str, Endpoint] = MappingProxyType({})

_SCOPES = {each: Scopes(*each) if any(each) else None for each in itertools.product((False, True), repeat=3)}
"""Shared by all endpoints; None where an endpoint is of no use."""

_NOBODY = frozenset(("",))
_NO_SCOPE = Scopes(internal=False, external=False)

Hosted = list[tuple[str, EndpointInfo]]
"""Endpoints with their keys."""

_Uses = list[tuple[EndpointPort, Scopes]]
"""The ports that an endpoint may be used for in one family."""

_UsesByEndpoint = dict[int, _Uses]
"""In one family, by the identity of the `EndpointInfo`, which costs nothing to hash."""


def localize(record: ServiceRecord, node: str, zone: str) -> LocalService | None:
    """What a node must do for a service; the same object for all nodes of which it knows nothing but the zone, or
    not even that. None: nothing."""
    answers = answers_of(record)
    return answers.for_node(node, zone) if answers else None


def answers_of(record: ServiceRecord) -> Answers | None:
    """The answers for a record, which live as long as it; None while only endpoints have been seen."""
    if record.service is None:
        return None
    answers = record.derived.get(_DERIVED)
    if not isinstance(answers, Answers):
        answers = record.derived[_DERIVED] = Answers(record.service, record)
    return answers


class _Pool(Struct):
    """The endpoints of one family that carry one port of the service, and which port of theirs that is."""

    family: Family
    endpoints: list[EndpointInfo]
    ports: list[EndpointPort]
    has_rivals: bool
    """Whether several had the same address and port, so that one may be there because another is not."""


class Answers:
    """All answers for one service record, made on demand."""

    __slots__ = (
        "_has_rivals",
        "_hinted_nodes",
        "_infos",
        "_keys",
        "_pools",
        "_service",
        "_shared",
        "_short_circuits",
        "nodes",
        "zones",
    )

    def __init__(self, service: Service, record: ServiceRecord) -> None:
        endpoints = list(record.endpoints())
        infos = [endpoint for _, endpoint in endpoints]
        self._keys = endpoint_keys(endpoints)
        self._infos = infos
        self._hinted_nodes = frozenset(chain.from_iterable(e.node_hints for e in infos if e.node_hints))
        self.nodes = self._hinted_nodes.union(e.node for e in infos) - _NOBODY
        """Those that may have answers of their own."""
        self.zones = frozenset(chain.from_iterable(e.zone_hints for e in infos if e.zone_hints))
        """Those that make a difference."""
        by_port = [(port, _pools(infos, port)) for port in service.ports]
        self._pools = [pool for _, pools in by_port for pool in pools]
        self._service = replace(
            service, ports=tuple(replace(port, available=_available(pools)) for port, pools in by_port)
        )
        self._has_rivals = any(pool.has_rivals for pool in self._pools)
        self._short_circuits = service.external_traffic_local and _has_external_reach(service)
        self._shared: dict[str, LocalService] = {}

    def shared(self, zone: str) -> LocalService:
        """The answer for every node in a zone that neither hosts an endpoint nor is named by a hint."""
        zone = zone if zone in self.zones else ""
        made = self._shared.get(zone)
        if made is None:
            made = self._shared[zone] = LocalService(self._service, self._endpoints(self._all(), "", zone))
        return made

    def hosted(self, node: str) -> Hosted:
        """The endpoints on a node."""
        return [(key, info) for key, info in self._all() if info.node == node] if node in self.nodes else []

    def is_special_to(self, node: str) -> bool:
        """Whether its own answer is not just the shared one, but for what it hosts."""
        return self._has_rivals or node in self._hinted_nodes

    def for_node(self, node: str, zone: str) -> LocalService:
        if self.is_special_to(node):
            return LocalService(self._service, self._endpoints(self._all(), node, zone))
        shared = self.shared(zone)
        hosted = self.hosted(node)
        if not hosted:
            return shared
        own = self._endpoints(hosted, node, zone)
        endpoints = {**shared.endpoints, **own}
        for key, _ in hosted:  # one that has a scope less has a number less, too
            for name in _numbered(key, endpoints):
                if name not in own:
                    del endpoints[name]
        return LocalService(self._service, endpoints)

    def _all(self) -> Iterator[tuple[str, EndpointInfo]]:
        return zip(self._keys, self._infos, strict=True)

    def _endpoints(
        self, candidates: Iterable[tuple[str, EndpointInfo]], node: str, zone: str
    ) -> Mapping[str, Endpoint]:
        """Choose per port and family, then put together again what each of the candidates may be used for."""
        v4: _UsesByEndpoint = {}
        v6: _UsesByEndpoint = {}
        for pool in self._pools:
            self._choose(pool, node, zone, v4 if pool.family is Family.IPV4 else v6)
        local: dict[str, Endpoint] = {}
        for key, info in candidates:
            uses = v4.pop(id(info), None), v6.pop(id(info), None)
            for addresses, used in _by_addresses(info.addresses, *uses):
                for scopes, ports in _by_scopes(used, info):
                    local[_free(key, local) if key in local else key] = Endpoint(
                        addresses=addresses,
                        ports=ports,
                        scopes=scopes,
                        local=bool(node) and info.node == node,
                        terminating=not info.ready,
                        hostname=info.hostname,
                    )
        return local or _NO_ENDPOINTS

    def _choose(self, pool: _Pool, node: str, zone: str, uses: _UsesByEndpoint) -> None:
        choice = choose(pool.endpoints, node, zone)
        internal = choice.local if self._service.internal_traffic_local else choice.cluster
        external = choice.local if self._service.external_traffic_local else choice.cluster
        inside = {id(e) for e in internal}
        outside = inside if external is internal else {id(e) for e in external}
        short = {id(e) for e in choice.cluster} if self._short_circuits else ()
        for info, port in zip(pool.endpoints, pool.ports, strict=True):
            identity = id(info)
            scopes = _SCOPES[identity in inside, identity in outside, identity in short]
            if scopes is None and _finishes_flows(info, port):
                scopes = _NO_SCOPE
            if scopes is not None:
                uses.setdefault(identity, []).append((port, scopes))


def _pools(infos: list[EndpointInfo], mapping: PortMapping) -> list[_Pool]:
    """One pool for each family that any endpoint carries the port in."""
    carrying = [(info, port) for info in infos if (port := match_port(info.ports, mapping))]
    pools = (_pool(carrying, family) for family in FAMILIES)
    return [pool for pool in pools if pool.endpoints]


def _pool(carrying: list[tuple[EndpointInfo, EndpointPort]], family: Family) -> _Pool:
    """The same address and port in several slices is one endpoint; one that does not terminate wins, as in
    kube-proxy."""
    unique: dict[tuple[tuple[str, ...], int], tuple[EndpointInfo, EndpointPort]] = {}
    rivals = 0
    for found in carrying:
        info, port = found
        addresses = info.addresses.v4 if family is Family.IPV4 else info.addresses.v6
        if addresses:
            known, _ = unique.setdefault((addresses, port.port), found)
            rivals += known is not info
            if known.terminating and not info.terminating:
                unique[addresses, port.port] = found
    endpoints, ports = [info for info, _ in unique.values()], [port for _, port in unique.values()]
    return _Pool(family, endpoints, ports, rivals > 0)


def _finishes_flows(info: EndpointInfo, port: EndpointPort) -> bool:
    """Whether an endpoint that gets no new connections is to keep its old ones. UDP has none that would end, so a
    backend must be told whose flows to leave alone while it terminates (KEP-1669)."""
    return port.protocol is Protocol.UDP and info.serving and info.terminating


def _has_external_reach(service: Service) -> bool:
    return bool(service.external_ips or service.load_balancer_ips or any(port.node_port for port in service.ports))


def _available(pools: list[_Pool]) -> int:
    return sum(pool.family.bit for pool in pools if any(map(is_usable, pool.endpoints)))


def _by_addresses(addresses: IPSet, v4: _Uses | None, v6: _Uses | None) -> Sequence[tuple[IPSet, _Uses]]:
    """An endpoint that has both families is one only if both may be used alike."""
    if v4 and v4 == v6:
        return ((addresses, v4),)
    parts = []
    if v4:
        parts.append((IPSet(v4=addresses.v4) if addresses.v6 else addresses, v4))
    if v6:
        parts.append((IPSet(v6=addresses.v6) if addresses.v4 else addresses, v6))
    return parts


def _numbered(key: str, names: Mapping[str, Endpoint]) -> list[str]:
    """The names that the parts of one endpoint have got."""
    return list(itertools.takewhile(names.__contains__, _names(key)))


def _names(key: str) -> Iterator[str]:
    return chain((key,), (f"{key}::{number}" for number in itertools.count(2)))


def _free(key: str, names: Mapping[str, Endpoint]) -> str:
    """Where an endpoint's families or ports differ in scopes there is one entry for each, told apart by number."""
    return next(name for name in _names(key) if name not in names)


def _by_scopes(uses: _Uses, info: EndpointInfo) -> Iterable[tuple[Scopes, tuple[EndpointPort, ...]]]:
    """The ports, together where they may be used alike: then mostly as the endpoint itself has them."""
    if len(uses) == 1 == len(info.ports):
        return ((uses[0][1], info.ports),)
    groups: dict[Scopes, list[EndpointPort]] = {}
    for port, scopes in uses:
        groups.setdefault(scopes, []).append(port)
    parts = [(scopes, tuple(ports)) for scopes, ports in groups.items()]
    return [(scopes, info.ports if ports == info.ports else ports) for scopes, ports in parts]
