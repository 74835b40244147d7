"""The shape of a state file: Go kpng's ``GlobalState``, whose keys are the Go fields' names in lower case.

Additions of ours, written only where they are needed: a service's ``sessionaffinity``; of an endpoint, the
conditions ``serving`` and ``terminating``, ``hints.nodes``, the ``protocol`` of a port, and of a Node more than its
name, zone and labels.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from msgspec import Struct

Addresses = list[str] | None
Labels = dict[str, str | None] | None


class _Shape(Struct, kw_only=True, omit_defaults=True):
    """All keys may be left out or null."""


class IPs(_Shape):
    v4: Addresses = None
    v6: Addresses = None


class ServiceIPs(_Shape):
    clusterips: IPs | None = None
    externalips: IPs | None = None
    loadbalancerips: IPs | None = None
    headless: bool | None = None


class IPFilter(_Shape):
    targetips: IPs | None = None
    sourceranges: Addresses = None


class Port(_Shape):
    name: str | None = None
    protocol: int | str | None = None
    port: int | None = None
    nodeport: int | None = None
    targetport: int | None = None
    targetportname: str | None = None


class ClientIP(_Shape):
    timeoutseconds: int | None = None


class SessionAffinity(_Shape):
    clientip: ClientIP | None = None


class Service(_Shape):
    namespace: str | None = None
    name: str | None = None
    type: str | None = None
    labels: Labels = None
    annotations: Labels = None
    ips: ServiceIPs | None = None
    ipfilters: list[IPFilter] | None = None
    mapip: bool | None = None
    ports: list[Port] | None = None
    externaltraffictolocal: bool | None = None
    internaltraffictolocal: bool | None = None
    healthchecknodeport: int | None = None
    sessionaffinity: SessionAffinity | None = None


class PortOverride(_Shape):
    name: str | None = None
    port: int | None = None
    protocol: int | str | None = None


class Endpoint(_Shape):
    hostname: str | None = None
    ips: IPs | None = None
    portoverrides: list[PortOverride] | None = None
    local: bool | None = None
    scopes: dict[str, Any] | None = None


class Conditions(_Shape):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Topology(_Shape):
    node: str | None = None
    zone: str | None = None


class Hints(_Shape):
    zones: list[str] | None = None
    nodes: list[str] | None = None


class EndpointInfo(_Shape):
    namespace: str | None = None
    servicename: str | None = None
    sourcename: str | None = None
    podname: str | None = None
    hash: int | str | None = None
    endpoint: Endpoint | None = None
    conditions: Conditions | None = None
    topology: Topology | None = None
    hints: Hints | None = None


class Node(_Shape):
    name: str | None = None
    topology: Topology | None = None
    labels: Labels = None
    annotations: Labels = None
    ips: IPs | None = None
    podcidrs: list[str] | None = None
    ineligible: bool | None = None


class ServiceCIDR(_Shape):
    name: str | None = None
    cidrs: list[str] | None = None


class ServiceAndEndpoints(_Shape):
    """An entry of ``services``; its parts are decoded one by one, so that a bad endpoint spoils only itself."""

    service: Any = None
    endpoints: list[Any] | None = None


class GlobalState(_Shape):
    """The whole file."""

    nodes: list[Any] | None = None
    services: list[Any] | None = None
    servicecidrs: list[Any] | None = None


def unknown_keys(data: object, shape: type[Struct], path: str = "") -> list[tuple[str, str]]:
    """(path, hint) of each key in ``data`` that the shape does not have."""
    known = _known(shape)
    found = []
    for key, value in data.items() if isinstance(data, dict) else ():
        where = f"{path}.{key}" if path else key
        if key not in known:
            found.append((where, f"; did you mean {key.lower()}?" if key.lower() in known else ""))
            continue
        inner = known[key]
        if inner is None:
            continue
        if isinstance(value, list):
            for index, item in enumerate(value):
                found += unknown_keys(item, inner, f"{where}[{index}]")
        else:
            found += unknown_keys(value, inner, where)
    return found


@cache
def _known(shape: type[Struct]) -> dict[str, type[Struct] | None]:
    """The shape's keys, and the shapes beneath them."""
    return {field.name: _struct_in(field.type) for field in msgspec.structs.fields(shape)}


def _struct_in(annotation: Any) -> type[Struct] | None:
    """The struct in ``X | None`` or ``list[X] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return annotation
    inner = (_struct_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((found for found in inner if found is not None), None)
